"""A wall clock that is wrong for one process: the source of a small library, and its image.

Containers share the clock of their host, and time namespaces know no wall clock. So a library,
preloaded into the node's process, adds an offset to the wall clock and to nothing else. The usual
tool for this, libfaketime, also touches timed waits: with its version of Debian 12
``time.sleep`` of Python fails and threads spin, so that it would not be the clock that is tested.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final

OFFSET_FILE: Final = "/tmp/clock"
"""Whole seconds, with a sign; read at most once a second. Inside the container, on its tmpfs."""
LIBRARY: Final = "/usr/local/lib/skew.so"

SOURCE: Final = f"""\
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile time_t offset_s, read_at_s = -1;

static time_t offset(void) {{
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    if (now.tv_sec != read_at_s) {{
        char text[32];
        int file = open("{OFFSET_FILE}", O_RDONLY | O_CLOEXEC);
        ssize_t size = file < 0 ? 0 : read(file, text, sizeof text - 1);
        if (file >= 0) close(file);
        text[size > 0 ? size : 0] = 0;
        offset_s = strtol(text, NULL, 10);
        read_at_s = now.tv_sec;
    }}
    return offset_s;
}}

int clock_gettime(clockid_t clock, struct timespec *now) {{
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset();
    return failed;
}}

int gettimeofday(struct timeval *now, void *zone) {{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}}

time_t time(time_t *now) {{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}}
"""

_DOCKERFILE: Final = """\
FROM {base} AS library
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \\
    && rm -rf /var/lib/apt/lists/*
RUN echo {source} | base64 -d > /skew.c && gcc -shared -fPIC -O2 -Wall -Werror -o /skew.so /skew.c

FROM {image}
COPY --from=library /skew.so {library}
"""


def dockerfile(image: str, base: str) -> str:
    """Return how to build an image like ``image`` that also holds the library."""
    source = b64encode(SOURCE.encode()).decode()
    return _DOCKERFILE.format(base=base, image=image, source=source, library=LIBRARY)
