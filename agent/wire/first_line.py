"""What the first line of refused bytes tells about them: for the log, never for a decision."""

import re
from urllib.parse import quote

PATH_BYTES = 4096
"""Of a longer path no more is kept than shows that it was longer."""

_LINE = re.compile(
    rb"([!#$%%&'*+.^_`|~0-9A-Za-z-]{1,20}) (?:[A-Za-z][A-Za-z0-9+.-]{0,15}://[^/?# \r\n]{0,300})?"
    rb"([/*][^?# \r\n]{0,%d}|[A-Za-z0-9.:\[\]-]{1,300}(?=[ \r\n]))?" % PATH_BYTES
)


def first_line(data: bytes) -> tuple[bytes, bytes]:
    """Method and raw path of bytes that are no request; each ``b""`` where it can't be told.

    The query isn't part of it, nor are the credentials that an absolute target may hold. What has no place in a URL is
    percent-encoded. A target in authority form (CONNECT) stands for the path.
    """
    found = _LINE.match(data)
    if found is None:
        return b"", b""
    return found[1], quote(found[2] or b"", safe="/%:@!$&'()*+,;=-._~[]\\\"<>^`{|}").encode()
