"""Scores and compares parents and children on a benchmark, draws their boxes, or packs results for a server.

Follows objects through a video or a camera, measures speed and memory, and exports trackers.

python eval.py checkpoint=outputs/train/.../checkpoint.safetensors
python eval.py checkpoint=child.safetensors benchmark=lasot paths.data=/data device=cuda runner.lockstep=16
python eval.py checkpoint=OSTrack_ep0300.pth.tar benchmark=got10k runner.workers=2 runner.devices=[cuda:0,cuda:1]
python eval.py checkpoint=child.safetensors benchmark=got10k_test action=submit archive=child.zip paths.data=/data
python eval.py checkpoint=child.safetensors benchmark=got10k action=open_loop paths.data=/data
python eval.py checkpoint=[parent.safetensors,child.safetensors] benchmark=got10k paths.data=/data
python eval.py checkpoint=[parent.safetensors,child.safetensors] benchmark=got10k action=show paths.data=/data
python eval.py checkpoint=child.safetensors action=video source=walk.mp4 box=40,30,32,24
python eval.py checkpoint=[child.safetensors,opencv_mil] action=profile runtime=[eager,onnx,openvino]
python eval.py checkpoint=child.safetensors action=export format=onnx precision=fp16
python eval.py -m checkpoint=parent.safetensors,child.safetensors benchmark=got10k,otb100 paths.data=/data

Several checkpoints in brackets are compared with the first one: paired differences with intervals, curves, the
sequences that changed most. `action=show` draws a sequence with their boxes. `action=video` needs no annotation but
the first box, `action=profile` times all trackers in turns, and `action=export` writes one for a machine without
PyTorch.

After an interruption, the same command continues where it stopped. Sequences with results in the cache are not tracked
again, except with force=true.
"""

from omegaconf import DictConfig

from evaluation.command_line.entry import command
from evaluation.processes.exit_message import with_exit_message


@with_exit_message
@command("eval")
def main(cfg: DictConfig) -> None:
    """Evaluates one checkpoint, or compares several."""
    from evaluation.commands.evaluate import evaluate  # imports torch, which --help and --cfg can do without

    evaluate(cfg)


if __name__ == "__main__":
    main()
