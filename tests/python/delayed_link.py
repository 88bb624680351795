"""A link between two network namespaces that delays every packet, for kernels without netem.

Each end is a TUN device. A packet that is read from one is written to the other DELAY ms later.

usage: delayed_link.py PID1 NAME1 PID2 NAME2 DELAY
       PID names the namespace of a process, NAME the device that is made there. Prints a line once
       both are there, and ends when its standard input does.
"""
import ctypes
import fcntl
import os
import queue
import struct
import sys
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
# More than a device with an MTU of 1500 sends at once.
PACKET = 4096

libc = ctypes.CDLL(None, use_errno=True)


def device(pid, name):
    """Returns the file of a new TUN device in the namespace of a process."""
    with open(f"/proc/{pid}/ns/net") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"entering the network namespace of {pid}")
    file = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return file


def carry(source, target, delay):
    """Starts to carry packets from one device to the other."""
    under_way = queue.SimpleQueue()

    def receive():
        while True:
            packet = os.read(source, PACKET)
            under_way.put((time.monotonic() + delay, packet))

    def deliver():
        while True:
            due, packet = under_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                os.write(target, packet)
            except OSError:
                pass  # The device is down: the packet is lost, as on any link.

    for work in (receive, deliver):
        threading.Thread(target=work, daemon=True).start()


pid1, name1, pid2, name2, delay = sys.argv[1:]
first, second = device(pid1, name1), device(pid2, name2)
seconds = float(delay) / 1000
carry(first, second, seconds)
carry(second, first, seconds)
print("ready", flush=True)
sys.stdin.read()
