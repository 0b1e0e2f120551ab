package protocol

// FrameSync opens a repair session on a link whose heads were exchanged.
const FrameSync FrameType = 16
