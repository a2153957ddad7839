# Image of a node, and of the `mbi` command. The same image serves every role; see docker-compose.yml.
#
#   docker build -t mbi-node:0.1.0 .
#
# BASE may carry a digest (python:3.12-slim-bookworm@sha256:...), which is what production should build from.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build

# plyvel has wheels for x86-64; elsewhere it is compiled against Debian's LevelDB.
RUN if [ "$(uname -m)" != x86_64 ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends g++ libleveldb-dev python3-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi

WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PROGRESS_BAR=off
RUN python3 -m venv /tools

# A layer of its own: the dependencies change less often than the code. The locked setuptools comes first, because what
# has no wheel is built with it, in place of whatever version the index has.
COPY requirements.lock ./
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock > setuptools.lock \
    && /tools/bin/pip install --quiet --require-hashes --requirement setuptools.lock \
    && /tools/bin/pip wheel --quiet --use-pep517 --no-build-isolation --require-hashes \
        --requirement requirements.lock --wheel-dir /wheels

# From here on nothing is downloaded, so only what the lock names can get in.
COPY pyproject.toml README.md LICENSE ./
COPY ledger ledger
COPY consensus consensus
COPY storage storage
COPY p2p p2p
COPY mbi mbi
COPY node node
RUN /tools/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python3 -m venv --without-pip /opt/mbi \
    && /tools/bin/pip --python /opt/mbi/bin/python install --quiet --no-index --find-links /wheels 'mbi-node[fast]'

FROM ${BASE}

RUN if [ "$(uname -m)" != x86_64 ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends libleveldb1d \
        && rm -rf /var/lib/apt/lists/*; \
    fi

# A new volume takes the owner of the directory that it is mounted on. So there is one for the home of this node,
# and one for the home of every node of a network that the init service makes (mbi localnet init --containers).
RUN mkdir -p /var/lib/mbi /network \
    && for number in $(seq 1 16); do \
        mkdir -p "/network/nodes/gov-$number" "/network/nodes/com-$number" "/network/nodes/obs-$number"; \
    done \
    && chown -R 10001:10001 /var/lib/mbi /network \
    && chmod -R 0700 /var/lib/mbi /network

COPY --from=build /opt/mbi /opt/mbi

# The root file system may be read-only: nothing but the home is written.
ENV PATH=/opt/mbi/bin:$PATH HOME=/var/lib/mbi PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /var/lib/mbi
# Not in the password file, and a number, so that an orchestrator can see that it is not root.
USER 10001:10001

ARG BASE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mbi-node" \
      org.opencontainers.image.description="Reference node of a permissioned proof-of-authority ledger" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}"

# Channel between nodes, HTTP.
EXPOSE 26100 26101

# Asks the node itself. 200 means synchronised and with a quorum in reach.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 26101, timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]

ENTRYPOINT ["mbi"]
CMD ["node", "start", "--home", "/var/lib/mbi"]
