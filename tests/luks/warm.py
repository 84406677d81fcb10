#!/usr/bin/python3 -IS
"""The machines' interpreter for Ansible. Under QEMU's translation a module spends two seconds on compiling and importing Ansible's
own parts; so a server that has imported them forks a child for each module, which runs as who asked, where and with what he gave.
What runs is the same. Without the server, or asked for anything else than a module, it is python3.

    warm.py ARGUMENT…     python3 ARGUMENT…
    warm.py --serve       the server
"""
import os
import sys

PARTS = ("basic", "_internal._ansiballz._loader", "_internal._json._profiles._module_legacy_c2m", "compat.selinux", "distro",
         "_internal._json._profiles._module_legacy_m2c", "_internal._patches._socket_patch", "common.text.formatters",
         "errors")
SOCKET, LIBRARY, PYTHON = os.environ.get("LAB_SOCKET", "/run/lab-python"), "/usr/local/lib/lab", "/usr/bin/python3"


def ask():
    import _socket  # socket itself imports much
    given = repr((sys.argv[1:], os.getcwd(), dict(os.environ))).encode()
    talk = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        talk.connect(SOCKET)
    except OSError:
        os.execv(PYTHON, [PYTHON, *sys.argv[1:]])
    files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    talk.sendmsg([len(given).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    talk.sendall(given)
    answer = talk.recv(1)
    os._exit(answer[0] if answer else 137)


def child(talk):
    import ast
    import pwd
    import runpy
    import socket
    import struct
    import traceback
    import types
    head, files, _flags, _address = socket.recv_fds(talk, 4, 3)
    size, given = int.from_bytes(head, "big"), b""
    while len(given) < size:
        given += talk.recv(65536)
    arguments, folder, environment = ast.literal_eval(given.decode())
    _pid, user, group = struct.unpack("3i", talk.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    os.setsid()
    if user:
        os.initgroups(pwd.getpwuid(user).pw_name, group)
        os.setgid(group)
        os.setuid(user)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    streams = [open(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))]  # noqa: SIM115  # for all its life
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    code = 0
    try:
        if arguments and not arguments[0].startswith("-"):
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
        elif not arguments:
            sys.argv = [""]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec"), main.__dict__)
        else:
            os.set_inheritable(talk.fileno(), False)
            done = os.spawnv(os.P_WAIT, PYTHON, [PYTHON, *arguments])
            code = done if done >= 0 else 128 - done
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    talk.send(bytes([code & 255]))
    os._exit(0)


class Modules:
    """Finds ansible.modules in the zip that a module came in: the rest of the package is loaded already, from elsewhere."""

    @staticmethod
    def find_spec(name, _path, _target=None):
        from importlib.machinery import PathFinder
        return PathFinder.find_spec(name, [f"{place}/ansible" for place in sys.path]) if name == "ansible.modules" else None


def serve():
    import importlib
    import signal
    import site
    import socket
    site.main()
    sys.path.insert(0, LIBRARY)
    for name in PARTS:
        importlib.import_module(f"ansible.module_utils.{name}")
    sys.path.remove(LIBRARY)
    sys.meta_path.insert(0, Modules)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(SOCKET)
        os.chmod(SOCKET, 0o666)
        door.listen(16)
        while True:
            talk, _address = door.accept()
            if os.fork() == 0:
                door.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                child(talk)
            talk.close()


serve() if sys.argv[1:] == ["--serve"] else ask()
