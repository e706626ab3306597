package ingest

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// TestBreakerIsOfASender opens for bursts of bad bodies, for whoever sends
// them and nobody else, and closes again.
func TestBreakerIsOfASender(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := &breaker{now: func() time.Time { return now }}
	bad, same, other := sender{"k", "net-1"}, sender{"k", "net-2"}, sender{"l", "net-1"}
	for i := range maxBad {
		if b.open(bad) {
			t.Fatalf("open after %d", i)
		}
		b.note(bad, 1)
	}
	if !b.open(bad) || b.open(same) || b.open(other) {
		t.Errorf("open for the sender %v, another network %v, another key %v", b.open(bad), b.open(same), b.open(other))
	}
	now = now.Add(breakerTime + time.Second)
	if b.open(bad) {
		t.Error("still open after its time")
	}
	for i := range maxBad / harm {
		if b.open(other) {
			t.Fatalf("open after %d that do harm", i)
		}
		b.note(other, (&refusal{status: http.StatusBadRequest, reason: event.ReasonJail}).weight())
	}
	if !b.open(other) || b.open(same) {
		t.Errorf("open for the sender of quarantined bodies %v, for another network %v", b.open(other), b.open(same))
	}
	refused := &breaker{now: b.now}
	for range maxBad { // what the server had no room for makes nobody better
		refused.note(bad, (&refusal{status: http.StatusServiceUnavailable, reason: event.ReasonBusy}).weight())
		refused.note(bad, 1)
	}
	if !refused.open(bad) {
		t.Error("closed for a sender none of whose bodies was taken")
	}
	for range 2 * maxBad { // half of them are good: a mixed network is not silenced
		b.note(bad, 1)
		b.note(bad, 0)
	}
	if b.open(bad) {
		t.Error("open for a sender half of whose bodies are good")
	}
	for i := range maxBad { // slowly
		now = now.Add(badTime / maxBad * 2)
		b.note(same, 1)
		if b.open(same) {
			t.Fatalf("open after %d slow ones", i)
		}
	}
	now = now.Add(2 * badTime)
	b.note(same, 0)
	now = now.Add(2 * badTime)
	b.note(same, 0)
	if _, there := b.seen[same]; there {
		t.Error("a sender that mended is still counted")
	}
}

func TestBreakerIsBounded(t *testing.T) {
	b := &breaker{now: time.Now}
	for i := range 3 * maxSenders {
		b.note(sender{"k", fmt.Sprint(i)}, 1)
		if len(b.seen) > maxSenders {
			t.Fatal(len(b.seen))
		}
	}
}

func TestParkingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{now: time.Now}
		began := time.Now()
		var wg sync.WaitGroup
		for range maxParked {
			wg.Go(b.park)
		}
		synctest.Wait()
		b.park() // one too many
		if time.Since(began) != 0 {
			t.Error("one too many waited")
		}
		wg.Wait()
		if time.Since(began) != parkTime {
			t.Errorf("the others waited %v", time.Since(began))
		}
	})
}

// TestBurstOfRubbish has one network send rubbish with a key of a tenant: it is
// refused before it is read, and a beacon from elsewhere with that key is not.
func TestBurstOfRubbish(t *testing.T) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_open"}, {Key: "pk_else"}}}})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{Tenants: d, Journal: slowLog{}, Fail: func(error) {}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.Run(ctx) })
	url, stop := listen(t, e)
	defer func() {
		stop()
		cancel()
		wg.Wait()
	}()
	at := &edge{url: url}
	refusedAfter := 0
	for i := range maxBad + 2 {
		a := at.send(t, "pk_open", "{rubbish")
		if a.status == http.StatusTooManyRequests {
			if a.Error.Reason != string(event.ReasonBreaker) || a.header.Get("Retry-After") != "30" {
				t.Errorf("%+v %v", a.Error, a.header)
			}
			refusedAfter = i
			break
		}
	}
	if refusedAfter != maxBad {
		t.Errorf("refused after %d, want %d", refusedAfter, maxBad)
	}
	if a := at.send(t, "pk_else", beaconText(0, viewText(time.Now()))); a.status != http.StatusAccepted {
		t.Errorf("another key from there got %d %+v", a.status, a.Error)
	}
}

func TestMemoryShort(t *testing.T) {
	short := memoryShort()
	if short() {
		t.Error("short without a limit")
	}
	was := debug.SetMemoryLimit(1 << 20)
	defer debug.SetMemoryLimit(was)
	if !short() {
		t.Error("not short of 1 MiB")
	}
}
