"""The service: search over HTTP, and the page that uses it; `imgret serve` runs it.

options.py     what the service is started with, and its limits
tokens.py      who gets in, and what a token allows
problem.py     errors -> answers, as RFC 9457 has them
guard.py       the first to see a request: host, origin, token, size, time, how many at once
traffic.py     one log line and the figures of each request
connection.py  one connection: a slow client is dropped
service.py     galleries, encoder and classifier, opened once and shared by all requests
app.py         the routes together, and the OpenAPI document
run.py         listen, answer, and end in order

Nothing here decides what a match is: that is retrieval's.
"""

from imgret.server.app import make_app
from imgret.server.options import Limits, ServiceOptions
from imgret.server.run import run_service
from imgret.server.tokens import Tokens

__all__ = ["Limits", "ServiceOptions", "Tokens", "make_app", "run_service"]
