"""The page of `srlib demo`, made with Gradio: drop an image or film, compare, download.

It listens on 127.0.0.1, sends nothing anywhere and keeps no files: uploads and results lie in one temporary folder,
which is removed at the end; those of one page when it is closed or gets another file.
"""

import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.demo import layout
from srlib.demo.choices import ModelChoice
from srlib.demo.sessions import Job, Sessions
from srlib.demo.work import Limits, Outcome, Settings, upscale_upload
from srlib.errors import SrlibError, pip_install
from srlib.progress import observed
from srlib.signals import Stopped, stoppable

if TYPE_CHECKING:
    import gradio
    from gradio.components import Component

_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_LONGEST_QUEUE = 16
_AT_ONCE = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}

# Everything comes from this server; Gradio's scripts are inline and compile templates.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob:; object-src 'none'; "
    "form-action 'none'"
)
_HEAD = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><meta name="referrer" content="no-referrer">'
# Gradio's own colors of small texts and of the main button have a contrast of 1.9 and 2.8; text needs 4.5.
_CONTRAST = {
    "body_text_color_subdued": "*neutral_600",
    "block_info_text_color": "*neutral_600",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_800",
}
_CSS = """
.gradio-container { max-width: 1280px !important; margin: auto !important; }
#status p { margin: 0.2em 0; }
footer { display: none !important; }
"""


def serve(
    choices: Sequence[ModelChoice],
    *,
    port: int = 7860,
    host: str = "127.0.0.1",
    limits: Limits | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Serve the page until interrupted.

    Args:
        choices: Models to choose from; the first is the default.
        port: Port to listen on; 0 for any free one.
        host: Address to listen on; another one than 127.0.0.1 only for a hosted page.
        limits: What the page takes.
        report: Function that is called with one line at a time.

    Raises:
        SrlibError: Gradio is missing, or the port is taken.
    """
    require_gradio()
    port = _free_port(host, port)
    with tempfile.TemporaryDirectory(prefix="srlib-demo-", ignore_cleanup_errors=True) as folder:
        os.environ.update(_QUIET, GRADIO_TEMP_DIR=folder)  # read while Gradio is imported
        sessions = Sessions(Path(folder))
        page = build_page(choices, sessions, limits or Limits())
        with contextlib.suppress(KeyboardInterrupt, Stopped), stoppable(signal.SIGINT):
            _launch(page, host, port, limits or Limits())
            report(f"Page: http://{host}:{port}  (Ctrl-C to stop)")
            threading.Event().wait()
        sessions.stop_all()
        logging.getLogger("uvicorn.error").disabled = True  # it reports connections that end with the program
        page.server.force_exit = True
        page.close(verbose=False)
    report("stopped; no files are left")


def require_gradio() -> None:
    """Check that the extra `demo` is installed.

    Raises:
        SrlibError: It is not.
    """
    if find_spec("gradio") is None:
        raise SrlibError(f"the page needs Gradio: {pip_install('srlib[demo]')}")


def _free_port(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SrlibError(f"port {port} is taken ({error.strerror}); choose another with --port") from None
        return int(probe.getsockname()[1])


def _launch(page: "gradio.Blocks", host: str, port: int, limits: Limits) -> None:
    import gradio as gr

    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    theme.set(**_CONTRAST)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        max_file_size=limits.megabytes * 10**6,
        footer_links=[],
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        theme=theme,
        css=_CSS,
        head=_HEAD,
    )


def build_page(choices: Sequence[ModelChoice], sessions: Sessions, limits: Limits) -> "gradio.Blocks":
    """Return the page.

    Args:
        choices: Models to choose from.
        sessions: Where files are kept.
        limits: What the page takes.
    """
    import gradio as gr

    with gr.Blocks(title="srlib", analytics_enabled=False, delete_cache=(60, 3600)) as page:
        gr.Markdown("# srlib\nUpscale an image or a film. Everything is computed here; nothing is sent or kept.")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                upload = layout.make_upload()
                controls = layout.make_controls(choices, limits.seconds)
                with gr.Row():
                    start = gr.Button("Upscale", variant="primary", elem_id="start", min_width=120)
                    stop = gr.Button("Stop", elem_id="stop", min_width=80)
            with gr.Column(scale=2, min_width=300):
                outputs = layout.make_outputs()

        def ask(values: dict[gr.components.Component, object], request: gr.Request) -> None:
            sessions.ask(str(request.session_hash), values)

        def run(
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008 that is how Gradio is asked for it
        ) -> object:
            values = sessions.begin(str(request.session_hash))
            if values is None:  # several clicks while work waited: that work took what was chosen last
                return gr.skip()
            try:
                with sessions.job(str(request.session_hash)) as job:
                    settings = controls.settings(choices, values)
                    return layout.filled(_upscaled(job, settings, limits, progress))
            except SrlibError as error:
                return layout.empty(f"**Not done.** {error}".replace("\n", "\n\n"))
            except Stopped:
                return layout.empty("Stopped.")

        work = {"show_progress_on": outputs[1], "scroll_to_output": True, "concurrency_limit": 1}
        # The click is noted at once, so that Stop and another choice reach work that waits in the queue. A click while
        # work runs starts more work after it.
        click = start.click(ask, set(controls), **_AT_ONCE)
        click.success(run, None, outputs, api_visibility="private", trigger_mode="always_last", **work)
        _connect_files(page, upload, stop, outputs, sessions)
    page.queue(max_size=_LONGEST_QUEUE, default_concurrency_limit=1)
    return page


def _connect_files(
    page: "gradio.Blocks",
    upload: "gradio.File",
    stop: "gradio.Button",
    outputs: "list[Component]",
    sessions: Sessions,
) -> None:
    """Keep the files of each open page, and only those."""
    import gradio as gr

    def take(path: str | None, request: gr.Request) -> list[object]:
        sessions.take(str(request.session_hash), Path(path) if path else None)
        name = Path(path).name if path else ""
        return layout.empty(f"{name} is here. Choose, and press Upscale." if path else "Drop an image or a film.")

    def halt(request: gr.Request) -> None:
        sessions[str(request.session_hash)].is_stopped.set()

    def leave(request: gr.Request) -> None:
        sessions.close(str(request.session_hash))

    upload.change(take, upload, outputs, **_AT_ONCE)
    stop.click(halt, **_AT_ONCE)
    page.unload(leave)


def _upscaled(job: Job, settings: Settings, limits: Limits, progress: Callable[..., object]) -> Outcome:
    """Upscale what a person has dropped, with progress on the page.

    Raises:
        SrlibError: It cannot be upscaled.
        Stopped: The work is to end.
    """
    progress(0, desc="opening the model")

    def observe(part: float, text: str) -> None:
        job.check_stop()
        progress(part, desc=text)

    with observed(observe):
        return upscale_upload(job.upload, job.folder, settings, limits)
