#!/usr/bin/env python3
"""Reads a .pftrace with Perfetto's own protobuf definitions (PyPI: perfetto) and checks what it says.

perfetto_protos_test.py TRACE    exit status 77: the package is not there
"""
import sys

try:
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb
except ImportError:
    print("skipped: this test needs `pip install perfetto protobuf`")
    sys.exit(77)


def check_no_unknown_fields(message, where):
    """What our writer calls a field that Perfetto does not know ends up here."""
    from google.protobuf import unknown_fields
    assert len(unknown_fields.UnknownFieldSet(message)) == 0, f"unknown fields in {where}"
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        for one in value if hasattr(value, "append") or hasattr(value, "add") else [value]:
            check_no_unknown_fields(one, f"{where}.{field.name}")


def main(path):
    trace = pb.Trace()
    trace.ParseFromString(open(path, "rb").read())
    check_no_unknown_fields(trace, "trace")

    tracks, processes, slices, samples = {}, [], [], 0
    stacks, starts, ends = {}, set(), set()
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id != 0
        if packet.HasField("track_descriptor"):
            descriptor = packet.track_descriptor
            tracks[descriptor.uuid] = descriptor
            if descriptor.HasField("process"):
                processes.append(descriptor.process.process_name)
            else:
                assert descriptor.parent_uuid in tracks
            continue
        event = packet.track_event
        assert event.track_uuid in tracks, "a track's description comes before its events"
        stack = stacks.setdefault(event.track_uuid, [])
        if event.type == pb.TrackEvent.TYPE_SLICE_BEGIN:
            stack.append((event.name, packet.timestamp))
            for flow in event.flow_ids:
                assert flow not in starts
                starts.add(flow)
            ends.update(event.terminating_flow_ids)
        elif event.type == pb.TrackEvent.TYPE_SLICE_END:
            name, begin = stack.pop()
            slices.append((tracks[event.track_uuid].name, name, begin, packet.timestamp))
        else:
            assert event.type == pb.TrackEvent.TYPE_COUNTER
            assert tracks[event.track_uuid].HasField("counter")
            samples += 1
    assert not any(stacks.values()), "every slice ends"
    assert starts == ends, "every arrow begins and ends"

    bars = [one for one in slices if one[0].startswith("rank ")]
    transfers = [one for one in slices if one[0].startswith("link ")]
    assert processes == ["dualpipe"], processes
    # 2 stages x 4 micro-batches x (F + B); a pair is one bar, a backward may be two (I and W).
    passes = sum(name.count("F") - name.count("OVERLAP_F") for _, name, _, _ in bars)
    assert passes == 8, passes
    assert len(transfers) == len(starts) == 8, (len(transfers), len(starts))
    assert ("rank 0", "0F0", 0, 1000) in bars, bars
    assert samples > 0
    print(f"{len(bars)} bars, {len(transfers)} transfers, {samples} samples as Perfetto reads them")


main(sys.argv[1])
