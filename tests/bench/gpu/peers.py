"""The same transformer layers and micro-batches through Python's pipelines, one process a GPU (torchrun's variables).

    peers.py CASE STEPS NAME...

NAME is a schedule of torch.distributed.pipelining (1F1B, Interleaved1F1B, InterleavedZeroBubble, ZBVZeroBubble,
DualPipeV), or deepseek-dualpipe, deepseek-dualpipev where that package can be imported. DeepSeek's step leaves it to
its caller to add up the gradients of the two copies of a stage: deepseek-dualpipe+sum does, by an all-reduce.
Prints medians in ms. With a file of gpu_step's in the environment's GRADIENTS, each schedule's gradients are compared
with those first.
"""
import json
import os
import struct
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F

CASES = {  # hidden, sequence, batch, layers, heads, micro-batches, type
    "tiny": (1024, 512, 1, 8, 16, 16, torch.bfloat16),
    "large": (4096, 4096, 1, 8, 32, 16, torch.bfloat16),
    "small": (512, 256, 3, 4, 8, 20, torch.float32),
    "host": (64, 16, 1, 4, 2, 16, torch.float32),
}


class Layer(torch.nn.Module):
    def __init__(self, h, heads, index, device, dtype):
        super().__init__()
        torch.manual_seed(1000 + index)
        self.index = index
        scale = 0.5 / h**0.5

        def make(*sizes, by):
            return torch.nn.Parameter((torch.randn(*sizes, device=device) * by).to(dtype))

        self.norm1 = make(h, by=1)
        self.qkv = make(3 * h, h, by=scale)
        self.out = make(h, h, by=scale)
        self.norm2 = make(h, by=1)
        self.up = make(4 * h, h, by=scale)
        self.down = make(h, 4 * h, by=scale)
        self.heads = heads

    def forward(self, x):
        b, s, h = x.shape
        a = F.linear(F.layer_norm(x, (h,), self.norm1), self.qkv)
        q, k, v = a.view(b, s, 3, self.heads, h // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = x + F.linear(mixed.transpose(1, 2).reshape(b, s, h), self.out)
        return y + F.linear(F.gelu(F.linear(F.layer_norm(y, (h,), self.norm2), self.up)), self.down)


def stage_module(case, stage, stages, device):
    h, _, _, layers, heads, _, dtype = case
    first, last = layers * stage // stages, layers * (stage + 1) // stages
    return torch.nn.Sequential(*[Layer(h, heads, i, device, dtype) for i in range(first, last)])


def micro_batches_of(case, numbers, device):
    """Inputs and targets of some micro-batches, as gpu_step has them."""
    h, s, b, _, _, _, dtype = case
    inputs, targets = [], []
    for m in numbers:
        torch.manual_seed(5000 + m)
        inputs.append(torch.randn(b, s, h, device=device, dtype=dtype))
        targets.append(torch.randn(b, s, h, device=device, dtype=dtype))
    return torch.cat(inputs), torch.cat(targets)


def read_safetensors(path):
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    types = {"BF16": torch.bfloat16, "F32": torch.float32}
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + at for at in entry["data_offsets"])
            values = torch.frombuffer(bytearray(data[begin:end]), dtype=types[entry["dtype"]])
            tensors[name] = values.view(entry["shape"])
    return tensors


def compare(case_name, name, modules, step, scale, copies=None):
    """One step's gradients, `scale` times those of the mean loss, with gpu_step's. Each rank of the group `copies`, if
    there is one, has gradients of its own micro-batches."""
    if "GRADIENTS" not in os.environ:
        return
    tolerance = 1e-4 if CASES[case_name][-1] == torch.float32 else 2e-2
    ours = read_safetensors(os.environ["GRADIENTS"])
    for module in modules:
        module.zero_grad(set_to_none=True)
    step()
    worst = 0.0
    for layer in sorted((layer for module in modules for layer in module), key=lambda one: one.index):
        for key, parameter in layer.named_parameters():
            found = parameter.grad.float() / scale
            if copies is not None:
                dist.all_reduce(found, group=copies)
            expected = ours[f"{key}_{layer.index}"].to(found.device).float()
            worst = max(worst, ((found - expected).norm() / expected.norm()).item())
    print(f"{case_name} {name:34} rank {dist.get_rank()}  gradients differ from ours by {worst:.1e}", flush=True)
    if not worst <= tolerance:
        raise SystemExit(f"{name} computes something else: {worst:.1e} is more than {tolerance:.0e}")


def measure(case_name, name, steps, modules, step):
    times, host = [], []
    for n in range(steps + 3):
        for module in modules:
            module.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        dist.barrier()
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        returned = time.perf_counter()
        torch.cuda.synchronize()
        if n >= 3:
            host.append((returned - start) * 1e3)
            times.append((time.perf_counter() - start) * 1e3)
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"{case_name} {name:34} rank {dist.get_rank()}  median {statistics.median(times):8.2f} ms  "
          f"({min(times):.2f} … {max(times):.2f})  host {statistics.median(host):7.2f} ms  peak {peak:6.2f} GiB",
          flush=True)


def run_torch(case_name, case, name, steps, device):
    from torch.distributed.pipelining import PipelineStage, schedules

    rank, ranks = dist.get_rank(), dist.get_world_size()
    h, s, b, _, _, micro_batches, dtype = case
    kind = schedules.get_schedule_class(name)
    if name == "1F1B":
        numbers, stages = [rank], ranks
    elif name in ("ZBVZeroBubble", "DualPipeV"):
        numbers, stages = [rank, 2 * ranks - 1 - rank], 2 * ranks
    else:
        numbers, stages = [rank, rank + ranks], 2 * ranks
    modules = [stage_module(case, n, stages, device) for n in numbers]
    parts = [PipelineStage(m, n, stages, device) for m, n in zip(modules, numbers)]
    schedule = kind(parts[0] if name == "1F1B" else parts, micro_batches, loss_fn=F.mse_loss)
    x, y = micro_batches_of(case, range(micro_batches), device)

    def step():
        arguments = (x,) if 0 in numbers else ()
        if stages - 1 in numbers:
            schedule.step(*arguments, target=y, losses=[])
        else:
            schedule.step(*arguments)

    compare(case_name, "torch " + name, modules, step, 1)
    measure(case_name, "torch " + name, steps, modules, step)


def run_deepseek(case_name, case, name, steps, device):
    import dualpipe

    rank, ranks = dist.get_rank(), dist.get_world_size()
    h, s, b, _, _, micro_batches, dtype = case
    dualpipe.set_p2p_tensor_shapes([(b, s, h)])
    dualpipe.set_p2p_tensor_dtype(dtype)

    two_way = name.startswith("deepseek-dualpipe") and not name.startswith("deepseek-dualpipev")
    sums = name.endswith("+sum")
    pairs = [dist.new_group([n, ranks - 1 - n]) for n in range(ranks // 2)] if two_way else []
    copies = pairs[min(rank, ranks - 1 - rank)] if two_way else None
    if two_way:
        numbers, stages = [rank, ranks - 1 - rank], ranks
    else:
        numbers, stages = [rank, 2 * ranks - 1 - rank], 2 * ranks
    modules = [stage_module(case, n, stages, device) for n in numbers]
    model = (dualpipe.DualPipe if two_way else dualpipe.DualPipeV)(tuple(modules))
    if two_way:  # each end feeds half of the micro-batches, and has the losses of the other half
        halves = range(micro_batches // 2), range(micro_batches // 2, micro_batches)
        x, _ = micro_batches_of(case, halves[rank >= ranks // 2], device)
        _, y = micro_batches_of(case, halves[rank < ranks // 2], device)
    else:
        x, y = micro_batches_of(case, range(micro_batches), device)

    def step():
        if two_way:
            model.step(x, num_chunks=micro_batches, criterion=F.mse_loss, labels=(y,), return_outputs=False)
        elif rank == 0:
            model.step(x, num_chunks=micro_batches, criterion=F.mse_loss, labels=(y,), return_outputs=False)
        else:
            model.step(num_chunks=micro_batches, criterion=F.mse_loss, labels=(), return_outputs=False)
        if sums:
            for _, module in sorted(zip(numbers, modules), key=lambda one: one[0]):
                for parameter in module.parameters():
                    dist.all_reduce(parameter.grad, group=copies)

    compare(case_name, name, modules, step, micro_batches, None if sums else copies)
    measure(case_name, name, steps, modules, step)


def main():
    case_name, steps, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", device_id=device)
    for name in names:
        torch.cuda.reset_peak_memory_stats()
        try:
            (run_deepseek if name.startswith("deepseek") else run_torch)(
                case_name, CASES[case_name], name, steps, device)
        except ImportError as error:
            print(f"skipped: {name}: {error}", flush=True)
        torch.cuda.empty_cache()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
