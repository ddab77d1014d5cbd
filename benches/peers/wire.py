"""The little of Kafka's protocol that is asked over a bare socket: where milliseconds count, no client's
own waiting and retrying may be in between."""

import socket
import struct
import time

ACKS_ALL = -1


def _table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _string(text):
    return struct.pack(">h", len(text)) + text.encode()


def batch(value=b"x" * 100):
    """A record batch with one record."""
    # attributes, timestamp and offset deltas, no key, the value's length and bytes, no headers
    body = b"\0\0\0\1" + _varint(len(value)) + value + b"\0"
    record = _varint(len(body)) + body
    now = int(time.time() * 1000)
    rest = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + record
    head = struct.pack(">ibI", 0, 2, crc32c(rest)) + rest
    return struct.pack(">qi", 0, len(head)) + head


def _varint(number):
    number, out = number << 1, b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def request(api, version, body):
    head = struct.pack(">hhi", api, version, 7) + _string("peers") + body
    return struct.pack(">i", len(head)) + head


def produce(topic, partitions, records):
    parts = b"".join(struct.pack(">ii", p, len(records)) + records for p in partitions)
    body = struct.pack(">hhii", -1, ACKS_ALL, 30000, 1) + _string(topic)
    return request(0, 7, body + struct.pack(">i", len(partitions)) + parts)


def produce_errors(answer):
    """Partitions and their error codes in the answer to a request that names one topic."""
    (length,) = struct.unpack_from(">h", answer, 8)
    at = 10 + length
    (count,) = struct.unpack_from(">i", answer, at)
    # partition, error, offset, time, start of the log
    return [struct.unpack_from(">ih", answer, at + 4 + 30 * i) for i in range(count)]


def create_topic(topic, partitions):
    body = struct.pack(">i", 1) + _string(topic) + struct.pack(">ihiiib", partitions, 1, 0, 0, 30000, 0)
    return request(19, 2, body)


def create_error(answer):
    (length,) = struct.unpack_from(">h", answer, 12)
    return struct.unpack_from(">h", answer, 14 + length)[0]


API_VERSIONS = request(18, 0, b"")


class Connection:
    def __init__(self, port, patience=30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, asked):
        self.socket.sendall(asked)
        (length,) = struct.unpack(">i", self._read(4))
        return self._read(length)

    def _read(self, length):
        read = b""
        while len(read) < length:
            part = self.socket.recv(length - len(read))
            if not part:
                raise ConnectionError("the broker has closed the connection")
            read += part
        return read

    def close(self):
        self.socket.close()


def first_ack(port, topic, until):
    """Asks once a millisecond until an append is acknowledged; returns the moment."""
    asked, connection = produce(topic, [0], batch()), None
    while time.monotonic() < until:
        try:
            connection = connection or Connection(port)
            if produce_errors(connection.ask(asked)) == [(0, 0)]:
                connection.close()
                return time.monotonic()
        except (OSError, ConnectionError):
            connection = None
        time.sleep(0.001)
    raise TimeoutError(f"no append was acknowledged on port {port}")
