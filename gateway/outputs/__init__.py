"""A stream sent on to others: platforms and players by RTMP and SRT, files, recordings, HLS.

FFmpeg does the containers and protocols, one process for each output, so that a far end, a disk or a crash
there never touches a stream. The gateway hands it MPEG-TS of its own making.
"""
