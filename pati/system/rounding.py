"""Shares as people read them, where rounding makes nothing perfect."""


def careful(value: float, whole: int, digits: int) -> tuple[str, str]:
    """A share as so many of `whole` with so many digits, after what stands before it: a minus, and a sign where
    rounding alone would make it none or all. 0.9996 of 100 with 1 digit is ("> ", "99.9")."""
    size, step, sign = abs(value), 10.0**-digits, ""
    number = round(whole * size, digits)
    if size > 1e-9 and not number:
        number, sign = step, "< " if value > 0 else "> "
    if size < 1 - 1e-9 and number == whole:
        number, sign = whole - step, "> " if value > 0 else "< "
    return sign + "-" * (value < 0 and number > 0), f"{number:.{digits}f}"


def hundredths(share: float) -> str:
    """0.9996 is "> 99.9", as under a head that says per cent."""
    return "".join(careful(share, 100, 1))


def percent(share: float) -> str:
    """0.9996 is "> 99.9 %"."""
    return f"{hundredths(share)} %"


def whole_percent(share: float) -> str:
    """0.996 is "> 99 %"."""
    return f"{''.join(careful(share, 100, 0))} %"


def rate(share: float) -> str:
    """0.9996 is "> 0.999"."""
    return "".join(careful(share, 1, 3))
