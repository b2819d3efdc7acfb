"""What the parsers raise: the bytes have no single meaning, or exceed a limit."""


class MalformedError(ValueError):
    """Bytes that are no HTTP/1.1 message with exactly one meaning.

    `code` is the stable code of the answer (see `agent.wire.codes`); the text says what was wrong, for the log.
    """

    def __init__(self, why: str, code: str = "malformed_request") -> None:
        super().__init__(why)
        self.code = code
