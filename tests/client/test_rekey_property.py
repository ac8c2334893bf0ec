"""Any interleaving of requests and rekeys gives each request its own answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from asys import isa
from asys.client import upkeep
from asys.client.pending import FOREVER, Pending
from asys.client.renewal import Renewal
from asys.errors import DeadlineExceeded, OutcomeUnknown
from asys.isa import Empty
from asys.protocol.apdu import Frame
from client.instructions import ECHO, SEALED_ECHO, SIGNED_ECHO, Number
from client.pair import Ear, Pair
from support.wire_node import OK

KINDS = (ECHO, SIGNED_ECHO, SEALED_ECHO)


class Conversation(RuleBasedStateMachine):
    """A caller and a node; bytes travel in pieces of any size, and time passes."""

    @initialize(requests=st.integers(5, 20))
    def connect(self, requests: int) -> None:
        self.now = 0.0
        self.patience = pytest.MonkeyPatch()  # this node takes any time, and answers in the end
        self.patience.setattr(upkeep, "REKEY_SECONDS", FOREVER)
        self.pair = Pair(lit="core,all,0C,2C,6C", renewal=Renewal(50.0, requests))
        self.ears: dict[int, Ear] = {}
        self.calls: dict[int, Pending] = {}
        self.rekeys: list[Ear] = []
        self.given_up: set[int] = set()
        self.asked: list[Frame] = []
        self.to_agent = b""
        self.rekeyed = 0

    @rule(kind=st.sampled_from(KINDS), patience=st.sampled_from([1.0, 30.0, 1000.0]))
    def call(self, kind: isa.AnyInstruction, patience: float) -> None:
        number = len(self.ears)
        pending, ear = self.pair.call(kind, number, deadline=self.now + patience, now=self.now)
        self.ears[number], self.calls[number] = ear, pending

    @rule()
    def rekey_by_hand(self) -> None:
        self.rekeys.append(self.pair.call(isa.REKEY, deadline=1e9, now=self.now)[1])

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.calls:
            number = data.draw(st.sampled_from(sorted(self.calls)))
            self.pair.caller.abandon(self.calls[number])
            if not self.ears[number].heard:
                self.given_up.add(number)

    @rule(seconds=st.sampled_from([0.1, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.pair.caller.expire(self.now)

    @rule()
    def agent_writes(self) -> None:
        """The node takes all that the agent may send now."""
        while data := self.pair.caller.data_to_send():
            self.pair.node.receive_data(data)
            for message in self.pair.node.messages():
                frames = self.pair.parser.feed(message)
                assert len(frames) == 1
                last = self.asked[-1].ins if self.asked else None
                assert last != isa.REKEY.code, "something left behind REKEY, before its answer"
                self.asked += frames

    @rule()
    def node_answers(self) -> None:
        """The node answers the next request."""
        if not self.asked:
            return
        frame = self.asked.pop(0)
        node = self.pair.node
        if frame.ins == isa.REKEY.code:
            self.to_agent += node.seal([OK])
            node.rekey()
            self.rekeyed += 1
            return
        payload = frame.data
        if frame.cla:
            assert node.verifier.verify(frame) is None
            clear = node.verifier.open(frame)
            assert clear is not None
            payload = clear.data[4:]
        self.to_agent += node.seal([payload + OK])

    @rule(size=st.integers(1, 200))
    def agent_reads(self, size: int) -> None:
        piece, self.to_agent = self.to_agent[:size], self.to_agent[size:]
        if piece:
            self.pair.caller.receive_data(piece, self.now)

    @invariant()
    def the_connection_lives(self) -> None:
        assert self.pair.caller.error is None

    @invariant()
    def every_answer_is_the_right_one(self) -> None:
        for number, ear in self.ears.items():
            for heard in ear.heard:
                if not isinstance(heard, DeadlineExceeded | OutcomeUnknown):
                    assert heard == Number(number=number)

    def teardown(self) -> None:
        """When all has been exchanged, everybody has heard something once."""
        self.patience.undo()
        while True:
            self.agent_writes()
            if not self.asked and not self.to_agent:
                break
            while self.asked:
                self.node_answers()
            self.agent_reads(1 << 20)
        self.the_connection_lives()
        self.every_answer_is_the_right_one()
        assert self.pair.caller.in_flight == 0
        assert all(ear.heard == [Empty()] for ear in self.rekeys)
        for number, ear in self.ears.items():
            assert len(ear.heard) == 1 or number in self.given_up
        handled = [one.instruction for one in self.pair.exchanges]
        assert handled.count("REKEY") == len(self.rekeys)
        assert self.rekeyed >= len(self.rekeys)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.sampled_from([*KINDS, isa.REKEY]), min_size=1, max_size=40), st.integers(4, 9))
@settings(deadline=None)
def test_a_pipeline_with_rekeys_anywhere(kinds: list[isa.AnyInstruction], requests: int) -> None:
    pair = Pair(lit="core,all,0C,2C,6C", renewal=Renewal(None, requests))
    ears = []
    for number, kind in enumerate(kinds):
        args = () if kind is isa.REKEY else (number,)
        ears.append((kind, number, pair.call(kind, *args)[1]))
    rounds = 0
    while pair.caller.in_flight:
        rounds += 1
        assert rounds < 200
        for frame in pair.requests():
            if frame.ins == isa.REKEY.code:
                pair.rekey()
                continue
            payload = frame.data
            if frame.cla:
                assert pair.node.verifier.verify(frame) is None
                clear = pair.node.verifier.open(frame)
                assert clear is not None
                payload = clear.data[4:]
            pair.reply(payload + OK)

    for kind, number, ear in ears:
        assert ear.heard == [Empty() if kind is isa.REKEY else Number(number=number)]
    signed = [one.seq for one in pair.exchanges if one.seq]
    assert signed == list(range(1, len(signed) + 1))
