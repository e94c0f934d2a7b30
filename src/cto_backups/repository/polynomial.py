"""Irreducible polynomials over GF(2), which restic's config file must hold.

Our chunking derives its seed from the polynomial; stock restic insists that it is irreducible, of degree 53.
A polynomial is an int whose bit i is the coefficient of x^i.
"""

import secrets

DEGREE = 53


def random_irreducible() -> int:
    """A random irreducible polynomial of degree 53."""
    while True:
        candidate = 1 << DEGREE | secrets.randbits(DEGREE) | 1
        if irreducible(candidate):
            return candidate


def irreducible(polynomial: int) -> bool:
    """Whether it has no divisor but itself and 1 (Ben-Or's test)."""
    degree = polynomial.bit_length() - 1
    if degree < 1:
        return False
    power = 2  # the polynomial x
    for _ in range(degree // 2):
        power = _multiply_modulo(power, power, polynomial)
        if _greatest_common_divisor(polynomial, power ^ 2) != 1:
            return False
    return True


def _modulo(dividend: int, divisor: int) -> int:
    degree = divisor.bit_length()
    while dividend.bit_length() >= degree:
        dividend ^= divisor << (dividend.bit_length() - degree)
    return dividend


def _multiply_modulo(left: int, right: int, modulus: int) -> int:
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        right >>= 1
    return _modulo(product, modulus)


def _greatest_common_divisor(left: int, right: int) -> int:
    while right:
        left, right = right, _modulo(left, right)
    return left
