"""The vectors for implementers: what is committed is what is made, and what the kit computes."""

from __future__ import annotations

import hmac
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from asys import isa
from asys.conformance import signing, vectors
from asys.conformance.handshake import RIGHT, Records, Symmetric, exchange, next_key

ROOT = Path(__file__).parents[2]
INSTRUCTIONS: dict[str, Any] = vectors.load("instructions.json")
SEALED: dict[str, Any] = vectors.load("sealed.json")
FRAMES: dict[str, Any] = vectors.load("frames.json")


def test_the_committed_instructions_are_what_the_tool_makes(tmp_path: Path) -> None:
    made = (
        "import sys; sys.path.insert(0, 'tools'); import conformance_vectors as made;"
        "sys.stdout.write(made.text())"
    )
    done = subprocess.run(
        [sys.executable, "-c", made], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == vectors.contents("instructions.json").decode(), (
        "run: python tools/conformance_vectors.py, and look at the difference"
    )


def test_every_instruction_has_a_vector() -> None:
    assert [one["name"] for one in INSTRUCTIONS["instructions"]] == [
        one.name for one in isa.REGISTRY
    ]


def test_every_file_is_explained() -> None:
    readme = vectors.contents("README.md").decode()
    for name in vectors.FILES[1:]:
        assert f"## {name}" in readme
    here = {path.name for path in (ROOT / "src/asys/conformance/vectors").iterdir()}
    assert here - {"__init__.py", "__pycache__"} == set(vectors.FILES)


def test_the_handshake_of_the_kit_is_the_library_s() -> None:
    """noise-ik.json was made by noiseprotocol."""
    given = {
        name: bytes.fromhex(one)
        for name, one in vectors.load("noise-ik.json").items()
        if name != "note"
    }
    agent, agent_e, node, node_e = (
        X25519PrivateKey.from_private_bytes(given[f"{name}_private"])
        for name in ("agent_static", "agent_ephemeral", "node_static", "node_ephemeral")
    )
    state = Symmetric(RIGHT)
    node_public = node.public_key().public_bytes_raw()
    shown = agent_e.public_key().public_bytes_raw()
    state.mix_hash(node_public)
    state.mix_hash(shown)
    state.mix_key(exchange(agent_e, node_public))
    sealed = state.seal(agent.public_key().public_bytes_raw())
    state.mix_key(exchange(agent, node_public))
    assert shown + sealed + state.seal(b"") == given["message_1"]
    answered = given["message_2"][:32]
    assert answered == node_e.public_key().public_bytes_raw()
    state.mix_hash(answered)
    state.mix_key(exchange(agent_e, answered))
    state.mix_key(exchange(agent, answered))
    assert state.open(given["message_2"][32:]) == b""
    assert state.hash == given["handshake_hash"]
    to_node, to_agent = state.split()
    assert (to_node, to_agent) == (given["agent_to_node_key"], given["node_to_agent_key"])
    records = Records(to_node, to_agent)
    assert records.seal(b"ping") == given["agent_record_ping"]
    assert records.seal(b"") == given["agent_record_empty"]
    assert records.feed(given["node_record_pong"]) == [b"pong"]


@pytest.mark.parametrize("vector", SEALED["frames"], ids=lambda one: one["what"])
def test_the_kit_seals_as_the_vectors_say(vector: dict[str, Any]) -> None:
    key, frame = bytes.fromhex(vector["key"]), bytes.fromhex(vector["frame"])
    size = 7 if frame[0] & 2 else 5
    head, data, tag = frame[:size], frame[size : -16 - (size - 3) // 2], frame[-16:]
    payload = bytes.fromhex(vector["payload"])
    assert signing.epoch_id(key).hex() == vector["epoch_id"]
    assert data[4:] == signing.sealed(key, head, vector["seq"], payload)
    assert signing.unsealed(key, head, vector["seq"], data[4:]) == payload
    assert tag == signing.auth_tag(key, head, data)


def test_the_kit_rekeys_as_the_vectors_say() -> None:
    keys = [bytes.fromhex(one) for one in SEALED["rekeyed"]]
    assert [next_key(one) for one in keys[:-1]] == keys[1:]


def test_the_kit_signs_as_the_vectors_say() -> None:
    key = bytes.fromhex(FRAMES["signing_key"])
    signed = [one for one in FRAMES["streams"] if one["what"].startswith("signed")]
    assert len(signed) == 6
    for one in signed:
        (frame,) = one["frames"]
        head, data = bytes.fromhex(frame["header"]), bytes.fromhex(frame["data"])
        assert signing.auth_tag(key, head, data).hex() == frame["tag"]


@pytest.mark.parametrize("one", INSTRUCTIONS["instructions"], ids=lambda one: one["name"])
def test_frames_of_instructions_by_another_computation(one: dict[str, Any]) -> None:
    key, frame = bytes.fromhex(INSTRUCTIONS["signing_key"]), bytes.fromhex(one["request"]["frame"])
    payload = bytes.fromhex(one["request"]["payload"])
    sec = frame[0] >> 2 & 3
    assert sec == {"plain": 0, "signed": 1, "enc-sign": 2}[one["level"]]
    data = frame[5 : 5 + frame[4]]
    if sec == 0:
        assert data == payload
        assert len(frame) == 6 + len(data)
        return
    assert frame[-16:] == hmac.digest(key, frame[:5] + signing.epoch_id(key) + data, "blake2b")[:16]
    opened = data[4:] if sec == 1 else signing.unsealed(key, frame[:5], 1, data[4:])
    assert opened == payload
    assert bytes.fromhex(one["reply"]["message"])[-2:] == b"\x90\x00"
