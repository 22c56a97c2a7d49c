"""An RTSP server for the tests, run by the Python of the system: `rtsp_server.py PORT`.

`/open` is for everybody who knows the password `bob:secret`; it prints its port when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_shared(True)
factory.set_launch(
    "( videotestsrc is-live=true pattern=ball ! "
    "video/x-raw,width=64,height=48,framerate=25/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 threads=1 ! "
    "rtph264pay name=pay0 pt=96 config-interval=1 )"
)
permissions = GstRtspServer.RTSPPermissions()
permissions.add_role("user")
for right in ("access", "construct"):
    permissions.add_permission_for_role("user", f"media.factory.{right}", True)
factory.set_permissions(permissions)
server.get_mount_points().add_factory("/open", factory)
token = GstRtspServer.RTSPToken()
token.set_string("media.factory.role", "user")
auth = GstRtspServer.RTSPAuth()
auth.add_basic(GstRtspServer.RTSPAuth.make_basic("bob", "secret"), token)
server.set_auth(auth)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
