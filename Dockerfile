# docker build -t mpdit .
# docker run -p 127.0.0.1:8501:8501 -v "$PWD/my-runs:/srv/mpdit/checkpoints/mine" mpdit
# With a CPU build of torch the image is smaller: --build-arg TORCH_ARGS="--index-url ..."
FROM python:3.11-bookworm
RUN useradd --create-home --uid 1000 mpdit && \
    install -d -o mpdit /srv/mpdit /srv/mpdit/checkpoints /srv/mpdit/checkpoints/mine
USER mpdit
WORKDIR /srv/mpdit
ARG TORCH_ARGS=""
COPY --chown=mpdit Makefile requirements.txt ./
RUN make setup TORCH_ARGS="$TORCH_ARGS"
COPY --chown=mpdit . .
VOLUME /srv/mpdit/checkpoints/mine
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD make health
CMD ["make", "app", "HOST=0.0.0.0"]
