# The CUDA libraries come with torch's wheels, so the base is plain Python; a second copy from a
# CUDA base image would cost gigabytes. Layers from slow to quick: torch, the other libraries,
# the code. Needs BuildKit, the default of every current engine.

ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS tools
COPY docker/uv.lock /build/
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
      --require-hashes -r /build/uv.lock
# The lock in two, so that a change to another library leaves torch's layer as it is.
COPY docker/split-lock requirements.lock /build/
RUN sh /build/split-lock /build/requirements.lock /build

FROM ${BASE_IMAGE} AS libraries
ENV UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1 \
    VIRTUAL_ENV=/opt/venv
RUN python3 -m venv --without-pip /opt/venv
# CUDA 13 needs driver 580 or later. For an older driver, build with
# --build-arg TORCH_BACKEND=cu126 (or cu128): the same torch, built for another CUDA, fetched from
# PyTorch's own index without hash checks. That path is not tested by this project.
ARG TORCH_BACKEND=
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=bind,from=tools,source=/build/torch,target=/build/torch \
    if [ -z "${TORCH_BACKEND}" ]; then \
      /opt/tools/bin/uv pip install --require-hashes --no-deps -r /build/torch/hashed.txt; \
    else \
      /opt/tools/bin/uv pip install --torch-backend "${TORCH_BACKEND}" -r /build/torch/names.txt; \
    fi
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=bind,from=tools,source=/build/others,target=/build/others \
    /opt/tools/bin/uv pip install --require-hashes --no-deps -r /build/others/hashed.txt

FROM libraries AS wheel
COPY pyproject.toml README.md LICENSE /build/
COPY distill /build/distill
COPY bench /build/bench
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    /opt/tools/bin/uv build --wheel --no-build-isolation --out-dir /wheel /build

FROM libraries
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="six-gig-distill" \
      org.opencontainers.image.description="Distil ViTs inside a 6 GB GPU: predict, probe, train" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/tools/bin/uv pip install --no-deps --no-index /wheel/*.whl
# Any user may run this: what has to be written lives in one volume and in the mounts.
RUN mkdir -p /cache /work/data /work/results /work/profiles \
 && chmod 1777 /cache /work/data /work/results /work/profiles
# PyTorch asks for the user's name, which an arbitrary uid does not have.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    USER=distill \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    TORCH_HOME=/cache/torch \
    MPLCONFIGDIR=/cache/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /work
VOLUME /cache
USER 1000:1000
COPY --chmod=755 docker/entrypoint /usr/local/bin/entrypoint
ENTRYPOINT ["entrypoint"]
CMD ["bench", "--help"]
