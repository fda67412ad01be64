#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tar archives header by header, so that every field can lie. tarfile would refuse or repair most of it."""

import io

FILE, LINK, SYMLINK, CHAR, BLOCK, DIR, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _number(value, width):
    """Octal with a NUL; base-256 when it does not fit or is negative; bytes go in as they are."""
    if isinstance(value, bytes):
        return value[:width].ljust(width, b"\0")
    digits = b"%0*o" % (width - 1, value) if value >= 0 else b""
    if value >= 0 and len(digits) < width:
        return digits + b"\0"
    return (0x80 if value >= 0 else 0xFF).to_bytes(1, "big") + (value % (1 << (8 * (width - 1)))).to_bytes(
        width - 1, "big"
    )


def header(name, type=FILE, mode=0o644, uid=0, gid=0, size=0, mtime=0, linkname="", major=0, minor=0,
           uname="", gname="", magic=b"ustar\x0000", checksum=None, prefix=""):
    """One 512-byte block. `size`, `mode`, ... may be bytes to be put in raw; `checksum` replaces the right one."""
    block = (
        _bytes(name)[:100].ljust(100, b"\0")
        + _number(mode, 8) + _number(uid, 8) + _number(gid, 8) + _number(size, 12) + _number(mtime, 12)
        + b" " * 8 + type + _bytes(linkname)[:100].ljust(100, b"\0") + magic
        + _bytes(uname)[:32].ljust(32, b"\0") + _bytes(gname)[:32].ljust(32, b"\0")
        + _number(major, 8) + _number(minor, 8) + _bytes(prefix)[:155].ljust(155, b"\0") + b"\0" * 12
    )
    assert len(block) == 512
    total = sum(block) if checksum is None else checksum
    return block[:148] + b"%06o\0 " % total + block[156:]


def pax_record(key, value):
    body = b" " + _bytes(key) + b"=" + _bytes(value) + b"\n"
    length = len(body)
    while length != len(body) + len(b"%d" % length):
        length = len(body) + len(b"%d" % length)
    return b"%d" % length + body


def pad(data):
    return data + b"\0" * (-len(data) % 512)


class Tar:
    """Collects entries; bytes() is the archive."""

    def __init__(self):
        self.out = io.BytesIO()

    def raw(self, data):
        self.out.write(data)
        return self

    def pax(self, records, name="PaxHeaders/x", type=b"x"):
        data = records if isinstance(records, bytes) else b"".join(pax_record(k, v) for k, v in records.items())
        return self.raw(header(name, type=type, size=len(data)) + pad(data))

    def add(self, name, data=b"", pax=None, size=None, **fields):
        """Any entry. Long names and xattrs become pax records by themselves; `size` overrides the true one."""
        data = _bytes(data)
        records = dict(pax or {})
        if len(_bytes(name)) > 100 and "path" not in records:
            records["path"] = name
        if len(_bytes(fields.get("linkname", ""))) > 100 and "linkpath" not in records:
            records["linkpath"] = fields["linkname"]
        if records:
            self.pax(records)
        self.raw(header(name, size=len(data) if size is None else size, **fields))
        return self.raw(pad(data))

    def file(self, name, data=b"", mode=0o644, **fields):
        return self.add(name, data, mode=mode, **fields)

    def dir(self, name, mode=0o755, **fields):
        return self.add(name, type=DIR, mode=mode, **fields)

    def symlink(self, name, target, **fields):
        return self.add(name, type=SYMLINK, linkname=target, mode=0o777, **fields)

    def link(self, name, target, **fields):
        return self.add(name, type=LINK, linkname=target, **fields)

    def fifo(self, name, **fields):
        return self.add(name, type=FIFO, **fields)

    def device(self, name, type=CHAR, major=1, minor=3, **fields):
        return self.add(name, type=type, major=major, minor=minor, **fields)

    def bytes(self, end=True):
        return self.out.getvalue() + (b"\0" * 1024 if end else b"")
