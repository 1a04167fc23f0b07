"""The gate, at which verifiers find the service: it stands at the issuer's address all the time, open or closed.

It finds out which process a connection belongs to and passes it on from a loopback address of
that verifier's own, so that the server's log tells the verifiers apart.
"""

import os
import socket
import struct
import sys
import threading

# Of Linux; the module socket has no name for them.
IP_BIND_ADDRESS_NO_PORT = 24
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20


class Gate:
    """`addresses` maps a session (setsid) to the address that the connections of its processes get."""

    def __init__(self):
        self.addresses = {}
        # Set when they are complete; until then connections wait, for some come at once.
        self.complete = threading.Event()
        self.listener = None
        self.open_sockets = set()
        # Bound for good and never listening. While the gate is closed connections are refused, and
        # nothing else gets the port, not even a verifier as its own end of a connection to it.
        self.reserved = socket.socket()
        self.reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.reserved.bind(("127.0.0.1", 0))
        self.port = self.reserved.getsockname()[1]

    def open(self, to: int):
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        threading.Thread(target=self.accept, args=[self.listener, to], daemon=True).start()

    def close(self):
        listener, self.listener = self.listener, None
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for end in list(self.open_sockets):
            shut(end, socket.SHUT_RDWR)

    def accept(self, listener: socket.socket, to: int):
        while True:
            try:
                client, peer = listener.accept()
            except OSError as error:
                if self.listener is listener:
                    complain(f"it takes no more connections: {error}")
                return
            threading.Thread(target=self.join, args=[client, peer, to], daemon=True).start()

    def join(self, client: socket.socket, peer: tuple, to: int):
        self.complete.wait()
        try:
            source = self.addresses.get(self.owner(peer), "127.0.0.1")
            server = connect(source, to)
        except OSError as error:
            complain(f"a connection is not passed on: {error!r}")
            client.close()
            return
        with client, server:
            self.open_sockets |= {client, server}
            back = threading.Thread(target=pump, args=[server, client], daemon=True)
            back.start()
            pump(client, server)
            back.join()
            self.open_sockets -= {client, server}

    def owner(self, peer: tuple) -> int | None:
        """The session of the process at the other end of a connection."""
        inode = inode_of(peer, ("127.0.0.1", self.port))
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                session = os.getsid(int(pid))
            except OSError:
                continue  # It has ended.
            if session in self.addresses and holds(pid, inode):
                return session
        return None


def inode_of(near: tuple, far: tuple) -> int:
    """The inode of the socket of this machine that is connected so, asked of the kernel by
    sock_diag(7): /proc/net/tcp is long, and slow, when many connections have been closed lately."""
    ends = [struct.pack("!HH", near[1], far[1])]
    ends += [socket.inet_aton(address).ljust(16, b"\0") for address, _ in (near, far)]
    any_interface, any_cookie, all_states = bytes(4), b"\xff" * 8, 0xFFFF_FFFF
    query = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, all_states)
    query += b"".join(ends) + any_interface + any_cookie
    header = struct.pack("=IHHII", 16 + len(query), SOCK_DIAG_BY_FAMILY, 1, 0, 0)  # 1: NLM_F_REQUEST
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(header + query)
        answer = kernel.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] != SOCK_DIAG_BY_FAMILY:
        raise ConnectionError("the other end is gone")
    return struct.unpack_from("=I", answer, 84)[0]


def holds(pid: str, inode: int) -> bool:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False  # It has ended.
    return any(leads_to(f"/proc/{pid}/fd/{number}", f"socket:[{inode}]") for number in descriptors)


def leads_to(link: str, target: str) -> bool:
    try:
        return os.readlink(link) == target
    except OSError:
        return False  # It was closed.


def connect(source: str, port: int) -> socket.socket:
    server = socket.socket()
    # The port is chosen on connecting, when it is known what it must differ from: also on a
    # machine that is short of ports.
    server.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    server.bind((source, 0))
    server.connect(("127.0.0.1", port))
    return server


def pump(source: socket.socket, sink: socket.socket):
    """Passes on what comes, and its end. The other direction goes on, unless there is no way on."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        shut(source, socket.SHUT_RDWR)
        shut(sink, socket.SHUT_RDWR)


def shut(end: socket.socket, how: int):
    try:
        end.shutdown(how)
    except OSError:
        pass  # It is not connected any more.


def complain(text: str):
    print(f"the gate: {text}", file=sys.stderr, flush=True)
