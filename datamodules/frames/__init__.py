"""Reading frames: picture files, video files, and JPEG files of which only a part is decoded."""
