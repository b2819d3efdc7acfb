# Outrigger as a small image: no compiler, no cache, no root, nothing to write.
# docker build -t outrigger:0.1.0 .

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements-dev.txt ./
COPY agent ./agent
# The constraints are the versions that the tests have run with.
RUN python -m venv /opt/outrigger \
 && /opt/outrigger/bin/pip install --no-cache-dir --no-compile -c requirements-dev.txt . \
 && /opt/outrigger/bin/pip uninstall --yes pip setuptools \
 # Compiled once here, as nothing can be written where it runs. Unchecked: no source file is looked at when it starts.
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/outrigger/lib

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Outrigger" \
      org.opencontainers.image.description="A sidecar for API platforms: one small process beside each application" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/outrigger /opt/outrigger
ENV PATH=/opt/outrigger/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OUTRIGGER_CONFIG=/etc/outrigger/outrigger.yaml \
    OUTRIGGER_LIVEZ=http://127.0.0.1:4501/livez
USER 65532:65532
EXPOSE 8080 4501
# Kubernetes ignores this and uses its own probes. Where admin listens elsewhere, set OUTRIGGER_LIVEZ.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(os.environ['OUTRIGGER_LIVEZ'], timeout=2)"]
ENTRYPOINT ["outrigger"]
CMD ["run"]
