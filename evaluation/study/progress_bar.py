"""The progress bar of a training stage."""

from typing import Any

from pytorch_lightning.callbacks import TQDMProgressBar


class StageProgressBar(TQDMProgressBar):
    """Lightning's progress bar, which also counts an epoch right that is resumed in its middle."""

    def on_train_start(self, *_: Any) -> None:
        """Starts the bar at the batch from which an interrupted epoch goes on. Lightning only starts bars at epochs."""
        super().on_train_start()
        trainer = self.trainer
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if 0 < done < trainer.num_training_batches:
            self.on_train_epoch_start(trainer)
            self.train_progress_bar.initial = done  # batches before the interruption do not count as speed
            self.train_progress_bar.n = done
            self.train_progress_bar.refresh()

    def on_exception(self, *_: Any, **__: Any) -> None:
        """Ends the bar when a signal or an error ends the training. It would be drawn below the exit message."""
        for bar in (self._train_progress_bar, self._val_progress_bar):
            if bar is not None:
                bar.close()
