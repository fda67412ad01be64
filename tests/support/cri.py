# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' container runtime interface (CRI v1), spoken through curl: no crictl and no gRPC library is needed.

A message is written as a dict of field numbers from the interface's api.proto; a list is a repeated field. What comes
back is a dict of lists, in which a nested message is bytes still, to be read by `fields` in its turn.
"""

import os
import re
import struct
import urllib.parse


class CriError(Exception):
    pass


def varint(number):
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode(message):
    out = b""
    for field, value in message.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                out += varint(field << 3) + varint(int(one))
            else:
                data = encode(one) if isinstance(one, dict) else one.encode() if isinstance(one, str) else one
                out += varint(field << 3 | 2) + varint(len(data)) + data
    return out


def fields(data):
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = number()
        if key & 7 == 0:
            value = number()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or number()
            value = data[at:at + size]
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found


class Cri:
    def __init__(self, cell, socket):
        self.cell, self.socket, self.count = cell, socket, 0

    def __call__(self, method, message, service="RuntimeService"):
        self.count += 1
        base = self.cell.world.path("cri-%d" % self.count)
        body = encode(message)
        with open(base, "wb") as out:
            out.write(struct.pack(">BI", 0, len(body)) + body)
        self.cell.ok("curl", "-sS", "--http2-prior-knowledge", "--unix-socket", self.socket, "-H", "content-type: application/grpc",
                     "-H", "te: trailers", "--data-binary", "@" + base, "-D", base + ".head", "-o", base + ".body",
                     "http://localhost/runtime.v1.%s/%s" % (service, method))
        with open(base + ".head") as head:
            text = head.read()
        status = re.search(r"^grpc-status: (\d+)", text, re.M | re.I)
        said = re.search(r"^grpc-message: (.*?)\r?$", text, re.M | re.I)
        if status is None or status.group(1) != "0":
            raise CriError("%s: %s" % (method, urllib.parse.unquote(said.group(1)) if said else text))
        if not os.path.exists(base + ".body"):
            return {}
        with open(base + ".body", "rb") as answer:
            return fields(answer.read()[5:])

    # The calls that kubelet makes of a pod's life.

    def run_pod(self, config, handler):
        return self("RunPodSandbox", {1: config, 2: handler})[1][0].decode()

    def stop_pod(self, pod):
        self("StopPodSandbox", {1: pod})
        self("RemovePodSandbox", {1: pod})

    def create(self, pod, config, pod_config):
        return self("CreateContainer", {1: pod, 2: config, 3: pod_config})[1][0].decode()

    def start(self, container):
        self("StartContainer", {1: container})

    def stop(self, container, timeout=20):
        self("StopContainer", {1: container, 2: timeout})

    def remove(self, container):
        self("RemoveContainer", {1: container})

    def exec(self, container, *command):
        """(status, stdout, stderr)"""
        answer = self("ExecSync", {1: container, 2: list(command), 3: 60})
        return answer.get(3, [0])[0], answer.get(1, [b""])[0].decode(), answer.get(2, [b""])[0].decode()

    def state(self, container):
        """(state, exit code, reason): state is created, running, exited or unknown."""
        status = fields(self("ContainerStatus", {1: container})[1][0])
        state = ("created", "running", "exited", "unknown")[status.get(3, [0])[0]]
        return state, status.get(7, [0])[0], status.get(10, [b""])[0].decode()
