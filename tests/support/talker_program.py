"""What a Talker runs: an order a line of JSON on stdin, an answer a line of JSON on stdout.

It is a program of its own, which needs nothing but Python, so that it runs in any namespace.
"""

import ctypes
import json
import queue
import selectors
import socket
import subprocess
import sys
import threading

SOCKETS: dict[str, socket.socket] = {}
CHILDREN: dict[str, subprocess.Popen[str]] = {}
MPTCP = 262


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def tcp(name: str, host: str, port: int, protocol: int = 0) -> None:
    SOCKETS[name] = socket.socket(_family(host), socket.SOCK_STREAM, protocol)
    SOCKETS[name].settimeout(60)
    SOCKETS[name].connect((host, port))


def udp(name: str, host: str, port: int = 0) -> None:
    """Connected where a port is named."""
    SOCKETS[name] = socket.socket(_family(host), socket.SOCK_DGRAM)
    SOCKETS[name].settimeout(60)
    if port:
        SOCKETS[name].connect((host, port))


def send(name: str, text: str, host: str = "", port: int = 0) -> None:
    if host:
        SOCKETS[name].sendto(text.encode(), (host, port))
    else:
        SOCKETS[name].send(text.encode())


def recv(name: str) -> str:
    """The next bytes, when they come."""
    return SOCKETS[name].recv(4096).decode()


def peek(name: str) -> str:
    """The next bytes if they are there now."""
    return recv(name) if waiting(name) else ""


def listen(name: str, host: str, protocol: int = 0) -> int:
    SOCKETS[name] = socket.socket(_family(host), socket.SOCK_STREAM, protocol)
    SOCKETS[name].settimeout(60)
    SOCKETS[name].bind((host, 0))
    SOCKETS[name].listen()
    port = SOCKETS[name].getsockname()[1]
    assert isinstance(port, int)
    return port


def accept(name: str, new: str) -> None:
    SOCKETS[new], _ = SOCKETS[name].accept()
    SOCKETS[new].settimeout(60)


def waiting(name: str) -> bool:
    """Whether there is something to receive, or a connection to accept."""
    with selectors.DefaultSelector() as selector:
        selector.register(SOCKETS[name], selectors.EVENT_READ)
        return bool(selector.select(0))


def child(name: str) -> int:
    """A process of its own, to be told things with `tell`."""
    CHILDREN[name] = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return CHILDREN[name].pid


def pair(one: str, other: str) -> None:
    """Two Unix sockets that are joined."""
    SOCKETS[one], SOCKETS[other] = socket.socketpair()


def sleeper() -> int:
    """A process that outlives this one."""
    return subprocess.Popen(["sleep", "infinity"], stdin=subprocess.DEVNULL).pid


ORDERS: queue.Queue[str] = queue.Queue()
ANSWERS: queue.Queue[str] = queue.Queue()


def hidden(host: str, port: int) -> None:
    """A connection that only one thread has in its table of descriptors."""

    def thread() -> None:
        if ctypes.CDLL(None).unshare(0x400):  # CLONE_FILES
            raise OSError("unshare")
        with socket.create_connection((host, port), 60) as own:
            ANSWERS.put("connected")
            while text := ORDERS.get():
                own.sendall(text.encode())
                ANSWERS.put("sent")
                ANSWERS.put(own.recv(4096).decode())

    threading.Thread(target=thread, daemon=True).start()
    ANSWERS.get(timeout=60)


def hidden_send(text: str) -> None:
    ORDERS.put(text)
    ANSWERS.get(timeout=60)


def hidden_recv() -> str:
    return ANSWERS.get(timeout=60)


def hidden_heard() -> bool:
    """Whether something has come back."""
    return not ANSWERS.empty()


def tell(name: str, *order: object) -> object:
    process = CHILDREN[name]
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    if "error" in answer:
        raise OSError(*answer["error"])
    return answer["answer"]


def serve(*hosts: str) -> None:
    """Echoes everything for ever; says the port of TCP and of UDP for each address."""
    selector = selectors.DefaultSelector()
    ports = []
    for host in hosts:
        stream = socket.create_server((host, 0), family=_family(host))
        datagrams = socket.socket(_family(host), socket.SOCK_DGRAM)
        datagrams.bind((host, 0))
        selector.register(stream, selectors.EVENT_READ, "listening")
        selector.register(datagrams, selectors.EVENT_READ, "datagrams")
        ports += [stream.getsockname()[1], datagrams.getsockname()[1]]
    print(json.dumps({"answer": ports}), flush=True)
    while True:
        for key, _ in selector.select():
            one = key.fileobj
            assert isinstance(one, socket.socket)
            try:
                if key.data == "listening":
                    selector.register(one.accept()[0], selectors.EVENT_READ, "stream")
                elif key.data == "datagrams":
                    data, peer = one.recvfrom(4096)
                    one.sendto(data, peer)
                elif data := one.recv(4096):
                    one.sendall(data)
                else:
                    selector.unregister(one)
            except ConnectionError:
                selector.unregister(one)


VERBS = (
    hidden,
    hidden_send,
    hidden_recv,
    hidden_heard,
    pair,
    sleeper,
    tcp,
    udp,
    send,
    recv,
    peek,
    listen,
    accept,
    waiting,
    child,
    tell,
    serve,
)


def main() -> None:
    verbs = {one.__name__: one for one in VERBS}
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        try:
            answer = verbs[verb](*arguments)
            said = {"answer": answer}
        except OSError as error:
            said = {"error": [error.errno or 0, str(error)]}
        print(json.dumps(said), flush=True)
    for one in CHILDREN.values():
        one.communicate()


if __name__ == "__main__":
    main()
