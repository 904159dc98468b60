import unittest

from signing import check, sign


class Signing(unittest.TestCase):
    def test_what_was_signed_is_accepted(self):
        self.assertEqual(check(sign("seven")), "seven")

    def test_what_was_changed_is_refused(self):
        self.assertIsNone(check(sign("seven").replace(b"seven", b"eight")))


if __name__ == "__main__":
    unittest.main()
