#!/usr/bin/env python3
"""A camera for tests: an RTSP server on loopback whose frames carry their number.

    tests/faults/rtsp_server.py [--port 0] [--first 0] [--size 160x120] [--codec h264|h265|jpeg] [--password WORD]

Serves rtsp://127.0.0.1:PORT/cam and prints `port N` when it listens, then `sent N` for every frame that goes to the
encoder. Needs the packages python3-gi and gir1.2-gst-rtsp-server-1.0; without them it ends with exit code 3.
"""

import argparse
import os
import sys

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer
except (ImportError, ValueError) as error:
    # Another Python than the system's may be first in the path, and does not know the system's packages.
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    print(f"cannot serve: {error}", flush=True)
    sys.exit(3)

FPS = 25
ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 bframes=0 ! rtph264pay config-interval=1",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph265pay config-interval=1",
    "jpeg": "jpegenc ! rtpjpegpay",
}


def numbered(width, height, number):
    """A grey I420 picture with the number in its corner, as src/source/live/numbers.rs draws it."""
    luma = bytearray([96 + number % 64]) * (width * height)
    code = list(number.to_bytes(4, "big"))
    code.append(code[0] ^ code[1] ^ code[2] ^ code[3] ^ 0xA5)
    for row, byte in enumerate(code):
        line = b"".join(bytes([235 if byte >> (7 - column) & 1 else 16]) * 8 for column in range(8))
        for y in range(row * 8, row * 8 + 8):
            luma[y * width : y * width + 64] = line
    return bytes(luma) + bytes([128]) * (width * height // 2)


class Camera:
    """Gives frames to one shared stream, numbered on from `first`, whoever connects."""

    def __init__(self, first, width, height):
        self.number, self.width, self.height = first, width, height
        self.source = None

    def configure(self, _factory, media):
        self.source = media.get_element().get_by_name_recurse_up("source")
        media.connect("unprepared", self.leave)
        GLib.timeout_add(1000 // FPS, self.push, self.source)

    def leave(self, _media):
        self.source = None

    def push(self, source):
        if source is not self.source:
            return False
        buffer = Gst.Buffer.new_wrapped(numbered(self.width, self.height, self.number))
        if source.emit("push-buffer", buffer) == Gst.FlowReturn.OK:
            print("sent", self.number, flush=True)
            self.number += 1
        return True


def protect(server, factory, password):
    """Lets only the user `viewer` with this password in."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("viewer", password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", default="0")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--size", default="160x120")
    parser.add_argument("--codec", choices=sorted(ENCODERS), default="h264")
    parser.add_argument("--password")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(args.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_shared(True)
    factory.set_launch(
        f"( appsrc name=source is-live=true do-timestamp=true format=time caps=video/x-raw,format=I420,width={width},"
        f"height={height},framerate={FPS}/1 ! {ENCODERS[args.codec]} name=pay0 pt=96 )"
    )
    camera = Camera(args.first, width, height)
    factory.connect("media-configure", camera.configure)
    if args.password:
        protect(server, factory, args.password)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        print("cannot serve: the port is taken", flush=True)
        sys.exit(1)
    print("port", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
