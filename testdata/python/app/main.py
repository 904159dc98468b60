import sys

from signing import check, sign

value = sys.argv[1]
signed = sign(value)
print("signed:", signed.decode().split(".")[0])
print("checked:", check(signed))
