"""The installed wheel, called as a backend would."""

import pathlib
import tempfile
import threading
import unittest

import quotum

PLANS = """
default_plan = "free"
[plans.free]
quotas = { searches = "3/day", tokens = "100/day" }
[plans.pro]
rank = 1
quotas = { searches = "50/day", tokens = "1000/day" }
"""


class TestQuota(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.plans = self.folder / "plans.toml"
        self.plans.write_text(PLANS)
        self.quota = quotum.Quota.open(f"sqlite:{self.folder}/quota.db", plans=self.plans)

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
        with self.assertRaisesRegex(quotum.QuotumError, 'unknown metric "serches"; the plans know: searches, tokens'):
            self.quota.consume("user-42", serches=1)
        with self.assertRaisesRegex(quotum.QuotumError, "from 1 to 9007199254740991 units"):
            self.quota.consume("user-42", searches=0)
        with self.assertRaises(OverflowError):
            self.quota.consume("user-42", searches=-1)
        with self.assertRaises(TypeError):
            self.quota.consume("user-42", searches=1.5)
        self.plans.write_text("default_plan = 'gold'")
        with self.assertRaisesRegex(quotum.QuotumError, "plans.toml:1: plans: found nothing"):
            quotum.Quota.open("memory:", plans=self.plans)


if __name__ == "__main__":
    unittest.main()
