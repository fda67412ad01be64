# SPDX-License-Identifier: Apache-2.0
"""A policy of SELinux that is just enough for containers to have labels: processes start as kernel_t and may become
container_t, files are container_file_t or unlabeled_t. It says nothing of all other classes, which the kernel then allows."""

import subprocess

# Numbered by their order (security/selinux/include/initial_sid_to_string.h of the kernel).
INITIAL = ("kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet icmp_socket "
           "tcp_socket sysctl_modprobe sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix sysctl_vm sysctl_dev kmod "
           "policy scmp_packet devnull").split()
CATEGORIES = 1024
PERMISSIONS = "fork transition sigchld sigkill dyntransition setexec getattr setcurrent"


def text():
    # A process with no_new_privs keeps its label unless the policy knows of that.
    lines = ["class process", "class process2", "class file", *["sid " + name for name in INITIAL],
             "class process { %s }" % PERMISSIONS, "class process2 { nnp_transition nosuid_transition }", "class file { entrypoint execute read write open getattr }",
             "sensitivity s0;", "dominance { s0 }", *["category c%d;" % number for number in range(CATEGORIES)],
             "level s0:c0.c%d;" % (CATEGORIES - 1),
             "mlsconstrain process { transition } ( h1 dom h2 or t1 == kernel_t );",
             *["type %s;" % name for name in ("kernel_t", "container_t", "container_file_t", "unlabeled_t")],
             "policycap nnp_nosuid_transition;", "role system_r;", "role system_r types { kernel_t container_t };",
             "allow kernel_t { kernel_t container_t }:process { %s };" % PERMISSIONS,
             "allow kernel_t container_t:process2 { nnp_transition nosuid_transition };",
             "user system_u roles { system_r } level s0 range s0 - s0:c0.c%d;" % (CATEGORIES - 1)]
    lines += ["sid %s system_u:%s:s0" % (name, "system_r:kernel_t" if name in ("kernel", "init") else "object_r:unlabeled_t")
              for name in INITIAL]
    lines += ["fs_use_xattr ext4 system_u:object_r:unlabeled_t:s0;", "fs_use_trans tmpfs system_u:object_r:unlabeled_t:s0;",
              "fs_use_trans devpts system_u:object_r:unlabeled_t:s0;", "genfscon proc / system_u:object_r:unlabeled_t:s0"]
    return "\n".join(lines) + "\n"


def compiled(directory):
    """What goes to /sys/fs/selinux/load."""
    source, target = directory + "/policy.conf", directory + "/policy"
    with open(source, "w") as file:
        file.write(text())
    subprocess.run(["checkpolicy", "-M", "-U", "allow", "-o", target, source], check=True, stdout=subprocess.DEVNULL)
    with open(target, "rb") as file:
        return file.read()
