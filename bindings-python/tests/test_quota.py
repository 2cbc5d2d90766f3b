"""The installed wheel, called as a backend would."""

import copy
import datetime
import json
import os
import pathlib
import pickle
import tempfile
import threading
import unittest

import quotum

PLANS = """
default_plan = "free"
[plans.free]
features = { excel = false, history_days = 30 }
quotas = { searches = "3/day", tokens = "100/day" }
[plans.pro]
rank = 1
features = { excel = true, history_days = 365 }
quotas = { searches = "50/day", tokens = "1000/day" }
"""


class TestQuota(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.plans = self.folder / "plans.toml"
        self.plans.write_text(PLANS)
        self.clock = quotum.ManualClock(datetime.datetime(2026, 3, 10, 15, tzinfo=datetime.timezone.utc))
        self.quota = self.open()

    def open(self):
        return quotum.Quota.open(f"sqlite:{self.folder}/quota.db", plans=self.plans, clock=self.clock)

    def test_the_limit_passes_and_no_more(self):
        for _ in range(3):
            decision = self.quota.consume("user-42", searches=1, tokens=30)
            self.assertTrue(decision)
            self.assertEqual((decision.plan, decision.reason), ("free", None))
        denied = self.quota.consume("user-42", searches=1)
        self.assertFalse(denied)
        self.assertEqual((denied.reason, denied.upgrade_to), ("quota_exhausted", "pro"))
        self.assertIn("searches: 3 of 3/day used", repr(denied))

    def test_threads_share_the_limit(self):
        granted = []

        def hammer():
            for _ in range(20):
                granted.append(bool(self.quota.consume("user-7", tokens=1)))

        threads = [threading.Thread(target=hammer) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(granted), 100)

    def test_mistakes_are_exceptions_that_name_them(self):
        with self.assertRaisesRegex(quotum.UnknownNameError, 'unknown metric "serches"; the plans know: searches, tokens'):
            self.quota.consume("user-42", serches=1)
        with self.assertRaisesRegex(ValueError, "from 1 to 9007199254740991 units"):
            self.quota.consume("user-42", searches=0)
        for wrong in [-1, 1.5, True, "1", None, 2**64]:
            with self.assertRaisesRegex(quotum.InvalidArgumentError, f"argument `searches`: found {wrong!r}, expected"):
                self.quota.consume("user-42", searches=wrong)
        with self.assertRaisesRegex(quotum.InvalidArgumentError, "a keyword and an entry of the mapping"):
            self.quota.consume("user-42", {"searches": 1}, searches=1)
        with self.assertRaisesRegex(quotum.InvalidArgumentError, "argument `searches`: found a value of <class 'int'>"):
            self.quota.consume("user-42", searches=10**5000)
        with self.assertRaisesRegex(quotum.InvalidArgumentError, "argument `rates_max`: found 100000000000000"):
            quotum.Quota.open("memory:", plans=self.plans, rates_max=10**14)
        self.assertEqual(self.quota.usage("user-42").quotas[0].used, 0, "nothing is half-applied")
        self.plans.write_text("default_plan = 'gold'")
        with self.assertRaisesRegex(quotum.PlansError, "plans.toml:1: plans: found nothing"):
            quotum.Quota.open("memory:", plans=self.plans)

    def test_an_answer_says_what_is_left_and_converts(self):
        decision = self.quota.consume("user-42", {"searches": 1}, tokens=30)
        searches, tokens = sorted(decision.quotas, key=lambda state: state.metric)
        self.assertEqual((searches.used, searches.limit, searches.remaining, searches.percent), (1, 3, 2, 33))
        self.assertEqual((tokens.metric, tokens.period, tokens.used, tokens.warning), ("tokens", "day", 30, False))
        self.assertEqual(searches.resets_at.utcoffset(), datetime.timedelta(0))
        self.assertEqual(str(searches.resets_at), "2026-03-11 00:00:00+00:00")
        self.assertEqual(repr(searches), "<QuotaState searches: 1 of 3/day used>")
        self.assertEqual(decision.quotas, decision.quotas)
        self.assertNotEqual(searches, tokens)
        told = json.loads(json.dumps(decision.to_dict()))
        self.assertEqual((told["allowed"], told["plan"], told["quotas"][0]["used"]), (True, "free", 1))
        self.assertIs(decision.raise_for_denied(), decision)
        with self.assertRaises(AttributeError):
            decision.allowed = False

    def test_a_denial_is_a_value_and_an_exception_for_those_who_want_one(self):
        denied = self.quota.consume("user-42", searches=4)
        self.assertEqual((denied.denied.reason, denied.denied.metric, denied.denied.limit), ("never_fits", "searches", 3))
        with self.assertRaises(quotum.DeniedError) as raised:
            denied.raise_for_denied()
        self.assertIs(raised.exception.decision, denied)
        self.assertEqual(str(raised.exception), str(denied.denied))
        self.assertTrue(self.quota.check("user-42", searches=3))
        self.assertEqual(self.quota.usage("user-42").quotas[0].used, 0)

    def test_a_key_charges_once_and_other_arguments_are_a_conflict(self):
        first = self.quota.consume("user-42", searches=2, idempotency_key="order-1")
        again = self.quota.consume("user-42", searches=2, idempotency_key="order-1")
        self.assertEqual((first.repeated, again.repeated, again.quotas[0].used), (False, True, 2))
        with self.assertRaisesRegex(quotum.ConflictError, "order-1"):
            self.quota.consume("user-42", searches=1, idempotency_key="order-1")

    def tokens(self):
        state = next(state for state in self.quota.usage("user-42").quotas if state.metric == "tokens")
        return state.used, state.held

    def test_a_reservation_charges_what_is_committed_and_gives_the_rest_back(self):
        with self.quota.reserve("user-42", tokens=80, ttl=datetime.timedelta(minutes=1)) as reserved:
            self.assertTrue(reserved)
            self.assertEqual(self.tokens(), (0, 80))
            settlement = reserved.commit(tokens=30)
        self.assertEqual((settlement.consumed, settlement.overage, settlement.repeated), ({"tokens": 30}, {"tokens": 0}, False))
        self.assertEqual(self.tokens(), (30, 0))
        again = reserved.commit(tokens=1)
        self.assertEqual((again.consumed, again.at, again.repeated), ({"tokens": 30}, settlement.at, True))
        self.assertEqual(reserved.release().consumed, {"tokens": 30}, "settled is settled")
        with self.assertRaises(ZeroDivisionError):
            with self.quota.reserve("user-42", tokens=70, ttl=60):
                self.assertEqual(self.tokens(), (30, 70))
                _ = 1 // 0
        self.assertEqual(self.tokens(), (30, 0))

    def test_a_denied_reservation_is_false_and_cannot_be_committed(self):
        reserved = self.quota.reserve("user-42", tokens=101, ttl=60)
        self.assertFalse(reserved)
        self.assertEqual((reserved.id, reserved.decision.reason), (None, "never_fits"))
        with self.assertRaises(quotum.DeniedError):
            reserved.commit(tokens=1)
        with self.assertRaisesRegex(quotum.InvalidArgumentError, "argument `ttl`: found 'soon'"):
            self.quota.reserve("user-42", tokens=1, ttl="soon")

    def test_what_was_used_is_given_back_granted_and_reset(self):
        self.assertTrue(self.quota.consume("user-42", searches=3))
        self.assertEqual([state.used for state in self.quota.refund("user-42", searches=2)], [1])
        self.assertEqual([state.limit for state in self.quota.grant("user-42", searches=5)], [8])
        self.assertEqual([state.used for state in self.quota.reset_usage("user-42", "searches")], [0])

    def test_features_are_looked_up_and_decided_on(self):
        self.assertEqual(self.quota.feature("user-42", "history_days"), 30)
        self.assertIs(self.quota.feature("user-42", "excel"), False)
        self.assertTrue(self.quota.require("user-42", "history_days", 30))
        denied = self.quota.require("user-42", "history_days", 90)
        self.assertEqual((denied.reason, denied.upgrade_to), ("feature_value_exceeded", "pro"))
        self.assertEqual(self.quota.require("user-42", "excel").reason, "feature_not_in_plan")

    def test_a_closed_engine_says_so(self):
        with self.quota as quota:
            quota.consume("user-42", searches=1)
        with self.assertRaisesRegex(quotum.ClosedError, "open another one"):
            quota.consume("user-42", searches=1)
        quota.close()
        with self.open() as again:
            self.assertEqual(again.usage("user-42").quotas[0].used, 1)

    def test_a_store_that_cannot_be_opened_is_named(self):
        with self.assertRaises(quotum.StoreError) as raised:
            quotum.Quota.open(f"sqlite:{self.folder}/no/such/folder.db", plans=self.plans)
        self.assertIn("folder.db", str(raised.exception))
        self.assertEqual(raised.exception.retry, "never")

    def test_a_forked_child_goes_on_and_disturbs_nobody(self):
        self.assertTrue(self.quota.consume("user-42", searches=1))
        child = os.fork()
        if child == 0:
            os._exit(0 if self.quota.consume("user-42", searches=1).quotas[0].used == 2 else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(self.quota.consume("user-42", searches=1).quotas[0].used, 3)
        self.assertFalse(self.quota.consume("user-42", searches=1))

    def test_an_engine_is_not_pickled_and_exceptions_are(self):
        with self.assertRaisesRegex(TypeError, "a Quota cannot be pickled: each process opens its own"):
            pickle.dumps(self.quota)
        for mistake in [
            lambda: self.quota.consume("ana", serches=1),
            lambda: self.quota.consume("ana", searches=0),
            lambda: self.quota.consume("ana", searches=-1),
            lambda: self.quota.consume("ana", searches=4).raise_for_denied(),
            lambda: quotum.Quota.open(f"sqlite:{self.folder}/no/such.db", plans=self.plans),
        ]:
            with self.assertRaises(quotum.QuotumError) as raised:
                mistake()
            for copied in [pickle.loads(pickle.dumps(raised.exception)), copy.copy(raised.exception)]:
                self.assertEqual((type(copied), str(copied)), (type(raised.exception), str(raised.exception)))
        self.assertEqual(pickle.loads(pickle.dumps(raised.exception)).retry, "never")


if __name__ == "__main__":
    unittest.main()
