#!/usr/bin/python3
"""Notes the command line and the environment of programs that are executed, as the kernel tells it.

Closer than `ps` now and then, but no proof: a program that has ended before it is looked at is missed.
"""
import errno
import os
import socket
import struct

CONNECTOR, PROC, LISTEN, EXEC = 11, 1, 1, 2
with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, CONNECTOR) as kernel, open("/var/log/lab-watch", "ab", buffering=0) as log:
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    kernel.bind((os.getpid(), PROC))
    kernel.send(struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, os.getpid(), PROC, 1, 0, 0, 4, 0, LISTEN))
    seen = set()
    while True:
        try:
            said = kernel.recv(4096)
        except OSError as error:  # more was executed than the buffer holds
            if error.errno != errno.ENOBUFS:
                raise
            continue
        if struct.unpack_from("=I", said, 36)[0] != EXEC:
            continue
        pid = struct.unpack_from("=I", said, 52)[0]
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    words = file.read().replace(b"\0", b" ")
            except OSError:
                continue
            if words not in seen:
                seen.add(words)
                log.write(words + b"\n")
