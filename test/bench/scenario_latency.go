package main

import "context"

func runLatency(ctx context.Context, b *bench) error { return nil }
func runSustain(ctx context.Context, b *bench) error { return nil }
