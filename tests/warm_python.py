"""A Python that has imported torch, once, and forks off whoever asks: a program then starts in milliseconds.

    python warm_python.py SOCKET                          serves, until its input ends
    python -IS warm_python.py SOCKET PROGRAM ARGUMENTS... a script or a module, run by a fork of the server

The program has the folder, the environment and the streams of who asks, and imports everything but torch by itself.
The server runs no operation: a child hangs in backward when its parent has computed with two threads.
"""

import gc
import importlib
import json
import os
import runpy
import select
import socket
import sys


def ask(path, program, arguments):
    """The exit code of the program."""
    request = {"folder": os.getcwd(), "environment": dict(os.environ), "program": program, "arguments": arguments}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
        return int(server.recv(16))


def serve(path):
    """Nothing at the end; in a fork the request, and its streams in place of ours."""
    # torch imports its compiler at the first transform, for two seconds.
    for name in ("torch", "torch._dynamo"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would touch, and so copy, the pages of all of torch
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while select.select([listener, sys.stdin], [], [])[0] == [listener]:
            client, _ = listener.accept()
            with client:
                request, streams, *_ = socket.recv_fds(client, 1 << 20, 3)
                process = os.fork()
                for number, stream in enumerate(streams):
                    if process == 0:
                        os.dup2(stream, number)
                    os.close(stream)
                if process == 0:
                    return json.loads(request)
                client.send(str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])).encode())
    return None


def run(folder, environment, program, arguments):
    """Run the program in place of this one, which ends as it ends."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    is_script = os.sep in program
    sys.argv[:] = [program, *arguments]
    sys.path[0] = os.path.dirname(program) if is_script else folder
    if is_script:
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    socket_path, *asked = sys.argv[1:]
    if asked:
        sys.exit(ask(socket_path, asked[0], asked[1:]))
    if (found := serve(socket_path)) is not None:
        run(**found)
