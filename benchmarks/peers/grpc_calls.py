"""gRPC with psutil: grpcio at both ends, its messages described at run time in place of protoc."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from benchmarks.peers.certificates import Certificates
from benchmarks.peers.jobs import Job
from benchmarks.peers.peer import ASK_SECONDS, HOST, Ask, Peer
from benchmarks.peers.readings import Readings
from benchmarks.plan import BenchmarkError

SERVICE: Final = "bench.Node"

_F: Final = FieldDescriptorProto
_FIELDS: Final[dict[str, dict[str, FieldDescriptorProto.Type.ValueType]]] = {
    "Nothing": {},
    "Vitals": {
        "load1": _F.TYPE_FLOAT,
        "load5": _F.TYPE_FLOAT,
        "cpu_percent": _F.TYPE_FLOAT,
        "io_wait_percent": _F.TYPE_FLOAT,
        "available_mb": _F.TYPE_UINT32,
        "root_used_percent": _F.TYPE_FLOAT,
        "inbound_mbps": _F.TYPE_FLOAT,
        "outbound_mbps": _F.TYPE_FLOAT,
    },
    "Process": {
        "pid": _F.TYPE_UINT32,
        "name": _F.TYPE_STRING,
        "cpu_percent": _F.TYPE_FLOAT,
        "memory_percent": _F.TYPE_FLOAT,
    },
    "Top": {"processes": _F.TYPE_MESSAGE},
}
_REPLIES: Final = {Job.VITALS: "Vitals", Job.TOP: "Top"}


def message_classes() -> dict[str, type[Message]]:
    """What protoc would have made of a .proto with these messages."""
    file = FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = DescriptorProto(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            added = message.field.add(name=field, number=number, label=_F.LABEL_OPTIONAL)
            added.type = kind
            if kind == _F.TYPE_MESSAGE:
                added.label = _F.LABEL_REPEATED
                added.type_name = ".bench.Process"
        file.message_type.append(message)
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"bench.{name}")) for name in _FIELDS}


class GrpcCalls(Peer):
    """A small service of one's own, with a schema."""

    @contextlib.contextmanager
    def serve(self) -> Iterator[int]:
        """The service."""
        self._certificates = Certificates.make(self.rig.directory)
        command = [sys.executable, "-m", "benchmarks.peers.grpc_calls", str(self.rig.directory)]
        with self.rig.serving(command) as port:
            yield port

    @contextlib.contextmanager
    def connect(self, port: int) -> Iterator[Ask]:
        """A channel; it connects with its first question."""
        classes = message_classes()
        credentials = grpc.ssl_channel_credentials(*_pem(self._certificates, "agent"))
        with grpc.secure_channel(f"{HOST}:{port}", credentials) as channel:
            calls = {
                job: channel.unary_unary(
                    f"/{SERVICE}/{job}",
                    request_serializer=classes["Nothing"].SerializeToString,
                    response_deserializer=classes[reply].FromString,
                )
                for job, reply in _REPLIES.items()
            }
            nothing = classes["Nothing"]()

            def ask(job: Job) -> str:
                try:
                    reply = calls[job](nothing, timeout=ASK_SECONDS)
                except grpc.RpcError as error:
                    raise BenchmarkError(f"the call failed: {error}") from error
                return json_format.MessageToJson(
                    reply,
                    indent=None,
                    preserving_proto_field_name=True,
                    always_print_fields_with_no_presence=True,
                )

            yield ask


def _pem(certificates: Certificates, who: str) -> tuple[bytes, bytes, bytes]:
    return (
        certificates.certificate("authority").read_bytes(),
        certificates.key(who).read_bytes(),
        certificates.certificate(who).read_bytes(),
    )


def _serve(certificates: Certificates) -> None:
    classes = message_classes()
    readings = Readings()

    def vitals(_request: Message, _context: Any) -> Message:
        return classes["Vitals"](**readings.vitals())

    def top(_request: Message, _context: Any) -> Message:
        return classes["Top"](processes=readings.top())

    handlers = {
        str(job): grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=classes["Nothing"].FromString,
            response_serializer=classes[_REPLIES[job]].SerializeToString,
        )
        for job, answer in ((Job.VITALS, vitals), (Job.TOP, top))
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    authority, key, certificate = _pem(certificates, "node")
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authority, require_client_auth=True
    )
    port = server.add_secure_port(f"{HOST}:0", credentials)
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    _serve(Certificates(Path(sys.argv[1])))
