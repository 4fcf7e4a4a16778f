"""Drives Chromium through DevTools' pipe: https://chromedevtools.github.io/devtools-protocol.

Needs Chromium and Python's own library, nothing else.
"""
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

TIMEOUT = 60  # seconds for anything


def find():
    """The path of a browser, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One browser with one tab."""

    def __init__(self, width=1400, height=800):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self.out = os.pipe()
        self.into, from_browser = os.pipe()
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (to_browser, from_browser)]
        self.process = subprocess.Popen(
            [find(), "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={self.folder.name}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            preexec_fn=lambda: [os.dup2(fd, number) for fd, number in zip(theirs, (3, 4))])
        for fd in (to_browser, from_browser, *theirs):
            os.close(fd)
        self.buffer, self.number, self.events, self.session = b"", 0, [], None
        tabs = self.call("Target.getTargets")["targetInfos"]
        tab = next(one["targetId"] for one in tabs if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Performance.enable", timeDomain="threadTicks")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)

    def close(self):
        self.process.terminate()
        self.process.wait()
        os.close(self.out)
        os.close(self.into)
        self.folder.cleanup()

    def read(self):
        """The browser's next message."""
        while b"\0" not in self.buffer:
            if not select.select([self.into], [], [], TIMEOUT)[0]:
                raise TimeoutError(f"no answer from Chromium within {TIMEOUT} s")
            part = os.read(self.into, 1 << 20)
            if not part:
                raise EOFError("Chromium ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data):]
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def run(self, script):
        """The value of an expression in the page; a promise's once it is there."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", script))
        return answer["result"].get("value")

    def open(self, path):
        """Opens a file, waits until it is drawn, and returns how many seconds that took."""
        self.events.clear()
        begin = time.monotonic()
        self.call("Page.navigate", url=f"file://{path}")
        while not self.run("globalThis.counterflow?.chart.drawn > 0"):
            if time.monotonic() - begin > TIMEOUT:
                raise TimeoutError(f"{path} was not drawn within {TIMEOUT} s; {self.complaints()}")
        return time.monotonic() - begin

    def complaints(self):
        """What went to the console since open(), and what was asked of the network."""
        self.run("0")  # what happened before has been told by now
        found = []
        for event in self.events:
            method, params = event["method"], event["params"]
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                found.append(json.dumps(params))
            if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
                found.append(params["request"]["url"])
        return found

    def cpu_seconds(self):
        """What the page's thread has worked so far."""
        metrics = {one["name"]: one["value"] for one in self.call("Performance.getMetrics")["metrics"]}
        return metrics["TaskDuration"]

    def frame(self):
        """Waits until what was asked for is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def press(self, key, shift=False):
        codes = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 if shift else 0,
                      windowsVirtualKeyCode=codes.get(key, 0), **(text if kind == "keyDown" else {}))
        self.frame()

    def type(self, text):
        self.call("Input.insertText", text=text)
        self.frame()

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, x0, y0, x1, y1):
        button = {"button": "left", "buttons": 1, "clickCount": 1}
        self.mouse("mousePressed", x0, y0, **button)
        for part in (0.25, 0.5, 0.75, 1):
            self.mouse("mouseMoved", x0 + (x1 - x0) * part, y0 + (y1 - y0) * part, **button)
        self.mouse("mouseReleased", x1, y1, **button)
        self.frame()

    def click(self, x, y):
        self.drag(x, y, x, y)

    def screenshot(self):
        """What is on the screen. The browser unpacks its own PNG, which takes Python seconds."""
        png = self.call("Page.captureScreenshot", format="png")["data"]
        width, pixels = self.run(f"""(async () => {{
            const image = new Image();
            image.src = 'data:image/png;base64,{png}';
            await image.decode();
            const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
            context.drawImage(image, 0, 0);
            const {{data}} = context.getImageData(0, 0, image.width, image.height);
            let text = '';
            for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
            return [image.width, btoa(text)];
          }})()""")
        return Image(base64.b64decode(png), width, base64.b64decode(pixels))


class Image:
    """Pixels, four bytes each."""

    def __init__(self, png, width, pixels):
        self.png, self.width, self.pixels = png, width, pixels

    def rgb(self, x, y):
        at = 4 * (y * self.width + x)
        return int.from_bytes(self.pixels[at:at + 3], "big")
