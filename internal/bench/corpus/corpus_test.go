package corpus_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/ingest"
	"serin.dev/serin/internal/bench/corpus"
)

var now = time.UnixMilli(1795538530_000)

func options(events int) corpus.Options {
	return corpus.Options{Seed: 1, Sessions: 40, Events: events, Now: now.UnixMilli()}
}

// capture is a body as a request.
func capture(t *testing.T, b *corpus.Body, id *[corpus.SessionBytes]byte) (string, ingest.Capture) {
	t.Helper()
	body := bytes.Clone(b.Bytes)
	b.Stamp(body, id)
	head := strings.Split(string(corpus.Head(b.Format, "host", "pk_key")), "\r\n")
	c := ingest.Capture{Method: "POST", Target: strings.Split(head[0], " ")[1], Headers: map[string]string{}, Body: body}
	for _, line := range head[1:] {
		if name, value, ok := strings.Cut(line, ": "); ok {
			c.Headers[name] = value
		}
	}
	protocol := map[corpus.Format]string{corpus.Faro: "faro", corpus.Sentry: "sentry", corpus.OTLPJSON: "otlp", corpus.OTLPProto: "otlp"}[b.Format]
	if protocol == "" {
		protocol = "native"
	}
	return protocol, c
}

// TestBodiesCarryTheSameEvents decodes every body of every format as the edge
// does: each holds as many events as its beacon, all of the stamped session,
// and the same number of errors.
func TestBodiesCarryTheSameEvents(t *testing.T) {
	for _, events := range []int{1, 10, 40} {
		sessions := corpus.Make(options(events))
		wantErrors := 0
		for _, s := range sessions {
			for _, b := range s.Beacons {
				if len(b.Events) != events {
					t.Fatalf("a beacon of %d events, want %d", len(b.Events), events)
				}
				for _, e := range b.Events {
					if e.Kind == "error" {
						wantErrors++
					}
				}
			}
		}
		if events == 40 && wantErrors < 10 {
			t.Errorf("only %d errors in the corpus", wantErrors)
		}
		for _, f := range corpus.Formats {
			t.Run(fmt.Sprintf("%s/%d", f, events), func(t *testing.T) {
				bodies, err := corpus.Encode(f, sessions)
				if err != nil {
					t.Fatal(err)
				}
				errors := 0
				for i := range bodies {
					id := [corpus.SessionBytes]byte([]byte(fmt.Sprintf("%032x", i+1)))
					for j := range bodies[i] {
						b := &bodies[i][j]
						protocol, c := capture(t, b, &id)
						res, err := ingest.DecodeBody(protocol, c, now)
						if err != nil {
							t.Fatalf("session %d, beacon %d: %v\n%s", i, j, err, c.Body)
						}
						if len(res.Rejected) > 0 {
							t.Fatalf("session %d, beacon %d: rejected: %+v\n%s", i, j, res.Rejected[0], c.Body)
						}
						if n := res.Events(); n != events || b.Events != events {
							t.Fatalf("session %d, beacon %d: %d events, told %d, want %d\n%s", i, j, n, b.Events, events, c.Body)
						}
						for _, bc := range res.Beacons {
							if bc.Session != string(id[:]) {
								t.Fatalf("session %q, want %q", bc.Session, id)
							}
							for _, e := range bc.Events {
								if e.Kind.String() == "error" {
									errors++
								}
							}
						}
					}
				}
				if errors != wantErrors {
					t.Errorf("%d errors, want %d", errors, wantErrors)
				}
			})
		}
	}
}

// TestStampedGzip holds the checksum that is moved by bits against what a
// reader computes.
func TestStampedGzip(t *testing.T) {
	sessions := corpus.Make(options(10))
	bodies, err := corpus.Encode(corpus.NativeGzip, sessions)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := corpus.Encode(corpus.Native, sessions)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	var buf []byte
	for range 2000 {
		i := rng.IntN(len(bodies))
		j := rng.IntN(len(bodies[i]))
		id := [corpus.SessionBytes]byte([]byte(fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())))
		buf = append(buf[:0], bodies[i][j].Bytes...)
		bodies[i][j].Stamp(buf, &id)
		r, err := gzip.NewReader(bytes.NewReader(buf))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("a reader finds: %v", err)
		}
		want := bytes.Clone(plain[i][j].Bytes)
		plain[i][j].Stamp(want, &id)
		if !bytes.Equal(got, want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

func TestMakeIsTheSameForTheSameSeed(t *testing.T) {
	encode := func(o corpus.Options) string {
		bodies, err := corpus.Encode(corpus.Native, corpus.Make(o))
		if err != nil {
			t.Fatal(err)
		}
		var sb strings.Builder
		for _, b := range slices.Concat(bodies...) {
			sb.Write(b.Bytes)
		}
		return sb.String()
	}
	o := options(10)
	if encode(o) != encode(o) {
		t.Error("two corpora of the same seed differ")
	}
	p := o
	p.Seed++
	if encode(o) == encode(p) {
		t.Error("two corpora of different seeds are the same")
	}
}
