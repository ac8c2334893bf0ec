"""Appendix B of docs/protocol.md, computed again by hashlib, hmac and cryptography alone."""

from __future__ import annotations

import hashlib
import hmac
import re

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from support.protocol_document import prose, worked_values

Values = dict[str, bytes]


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.blake2b).digest()


def nonce(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")


def record(key: bytes, counter: int, message: bytes) -> bytes:
    sealed = ChaCha20Poly1305(key).encrypt(nonce(counter), message, None)
    return len(sealed).to_bytes(2, "big") + sealed


def sealed_frame(session: Values, private: bytes) -> Values:
    """Appendix B.1 from the keys of Appendix A and the private key of the new agent."""
    key, back, epoch = (
        session[name] for name in ("agent_to_node_key", "node_to_agent_key", "epoch_id")
    )
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    values = {"delegate_static_public": public, "enc_context": b"asys-enc-v1"}
    values["enc_hmac"] = mac(key, b"asys-enc-v1")
    values["k_enc"] = values["enc_hmac"][:32]

    lit = sum(1 << code for code in (0x00, 0x01, 0x02, 0x03, 0x11, 0x13, 0x22))
    words = [(lit >> 32 * word & 0xFFFFFFFF).to_bytes(4, "big") for word in range(8)]
    values["add_caps"] = b"".join(words)
    values["add_ttl"] = (3600).to_bytes(4, "big")
    values["add_label"] = b"\x05web-1"
    payload = public + values["add_caps"] + values["add_ttl"] + values["add_label"]
    values["add_payload"] = payload

    header = values["add_header"] = bytes((0x08, 0x60, 0, 0, 4 + len(payload) + 16))
    seq = values["add_seq"] = (3).to_bytes(4, "big")
    values["add_nonce"] = nonce(3)
    values["add_ad"] = header + epoch + seq
    sealed = ChaCha20Poly1305(values["k_enc"]).encrypt(nonce(3), payload, values["add_ad"])
    values["add_sealed"] = sealed
    values["add_tag_input"] = header + epoch + seq + sealed
    values["add_tag_hmac"] = mac(key, values["add_tag_input"])
    tag = values["add_auth_tag"] = values["add_tag_hmac"][:16]
    values["add_frame"] = header + seq + sealed + b"\0" + tag
    values["add_record"] = record(key, 2, values["add_frame"])
    values["add_response"] = hashlib.blake2b(public).digest()[:4] + b"\x90\0"
    values["add_response_record"] = record(back, 2, values["add_response"])
    return values


def rekeyed(session: Values) -> Values:
    """Appendix B.2 from the keys of Appendix A."""
    key, back = session["agent_to_node_key"], session["node_to_agent_key"]
    values = {"rekey_request": bytes((0, 0x13, 0, 0, 0, 0)), "rekey_response": b"\x90\0"}
    values["rekey_record"] = record(key, 3, values["rekey_request"])
    values["rekey_response_record"] = record(back, 3, values["rekey_response"])
    largest = values["rekey_nonce"] = nonce(2**64 - 1)
    values["rekey_output"] = ChaCha20Poly1305(key).encrypt(largest, bytes(32), b"")
    values["rekey_output_back"] = ChaCha20Poly1305(back).encrypt(largest, bytes(32), b"")
    key = values["agent_to_node_key_2"] = values["rekey_output"][:32]
    back = values["node_to_agent_key_2"] = values["rekey_output_back"][:32]
    epoch = values["epoch_id_2"] = mac(key, b"asys-epoch-v1")[:4]
    values["k_enc_2"] = mac(key, b"asys-enc-v1")[:32]

    header, data = bytes((0x04, 0x20, 0, 0, 8)), (4).to_bytes(4, "big") + (16073).to_bytes(4, "big")
    values["tag_input_4"] = header + epoch + data
    values["frame_4"] = header + data + b"\0" + mac(key, values["tag_input_4"])[:16]
    values["record_4"] = record(key, 4, values["frame_4"])
    values["response_4"] = b"\x90\0"
    values["response_record_4"] = record(back, 4, values["response_4"])
    return values


def test_worked_frames_follow_from_appendix_a() -> None:
    session = worked_values("Appendix A")
    values = worked_values("Appendix B")
    given = "delegate_static_private"
    computed = sealed_frame(session, values[given]) | rekeyed(session)
    assert computed.keys() | {given} == values.keys()
    assert {name for name in computed if computed[name] != values[name]} == set()


def test_what_is_sealed_opens_again() -> None:
    values = worked_values("Appendix B")
    cipher = ChaCha20Poly1305(values["k_enc"])
    opened = cipher.decrypt(values["add_nonce"], values["add_sealed"], values["add_ad"])
    assert opened == values["add_payload"]


def test_appendix_has_no_bytes_that_are_not_recomputed() -> None:
    assert re.findall(r"\b[0-9a-fA-F]{5,}\b", prose("Appendix B")) == [f"{3600:08X}"]
