package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"serin.dev/serin/internal/bench/corpus"
	"serin.dev/serin/internal/bench/wire"
)

// record is what the good tenant's client knows: its judgement counts.
type record struct {
	mu      sync.Mutex
	acked   map[string]int // events, by session/seq
	retries int
	longest time.Duration
	fault   error
}

// pause between two good beacons: they are there to be watched, not to load.
const pause = 5 * time.Millisecond

// send sends the good tenant's beacons, each until it is acknowledged, until
// ctx ends.
func (r *record) send(ctx context.Context, host string, stream uint64) {
	bodies, err := corpus.Encode(corpus.Native, corpus.Make(corpus.Options{Seed: 2, Sessions: 64, Events: 10, Now: time.Now().UnixMilli()}))
	if err != nil {
		r.fail(err)
		return
	}
	rng := rand.New(rand.NewPCG(3, stream))
	conn := wire.Conn{Host: host}
	defer conn.Close()
	head := corpus.Head(corpus.Native, host, goodKey)
	var buf []byte
	for session := 0; ; session++ {
		id := [corpus.SessionBytes]byte([]byte(fmt.Sprintf("%016x%016x", stream, session)))
		list := bodies[rng.IntN(len(bodies))]
		for i := range list {
			b := &list[i]
			buf = wire.Request(buf[:0], head, b.Bytes)
			b.Stamp(buf[len(buf)-len(b.Bytes):], &id)
			if err := r.until(ctx, &conn, buf, b.Events); err != nil {
				r.fail(fmt.Errorf("good beacon %s/%d: %w", id, b.Seq, err))
				return
			}
			r.mu.Lock()
			r.acked[string(id[:])+"/"+strconv.Itoa(b.Seq)] = b.Events
			r.mu.Unlock()
			select {
			case <-ctx.Done(): // with an acknowledgement as the last thing
				return
			case <-time.After(pause):
			}
		}
	}
}

// until sends the same bytes until they are acknowledged, for a minute.
func (r *record) until(ctx context.Context, conn *wire.Conn, request []byte, events int) error {
	start := time.Now()
	for {
		a, err := conn.Do(request)
		switch {
		case err == nil && a.Status == 202:
			if want := fmt.Appendf(nil, `"accepted":%d,`, events); !bytes.Contains(a.Body, want) {
				return fmt.Errorf("answered %s, want all %d events", a.Body, events)
			}
			r.mu.Lock()
			r.longest = max(r.longest, time.Since(start))
			r.mu.Unlock()
			return nil
		case err == nil && a.Status != 503 && a.Status != 429:
			return fmt.Errorf("status %d: %s", a.Status, a.Body)
		case time.Since(start) > time.Minute:
			return fmt.Errorf("not acknowledged within a minute: %w", err)
		}
		r.mu.Lock()
		r.retries++
		r.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *record) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault == nil {
		r.fault = err
	}
}
