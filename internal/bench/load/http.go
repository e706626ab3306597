package load

import (
	"time"

	"serin.dev/serin/internal/bench/corpus"
	"serin.dev/serin/internal/bench/mutate"
	"serin.dev/serin/internal/bench/wire"
)

// poster is one connection that sends beacons by HTTP/1.1, one at a time.
type poster struct {
	conn  wire.Conn
	head  []byte // up to the body's length
	gzip  []byte // the same for bodies that are gzip
	walk  *walk
	buf   []byte
	share float64 // of hostile bodies
	mut   *mutate.Mutator
}

func newPoster(o *Options, host, key string, w *walk, n int) *poster {
	p := &poster{conn: wire.Conn{Host: host}, head: corpus.Head(o.Format, host, key), walk: w, share: o.Hostile}
	if o.Hostile > 0 {
		p.mut = mutate.New(o.Seed, uint64(n))
		p.gzip = p.head
		if o.Format != corpus.NativeGzip {
			p.gzip = append(append([]byte{}, p.head[:len(p.head)-len("Content-Length: ")]...), "Content-Encoding: gzip\r\nContent-Length: "...)
		}
	}
	return p
}

func (p *poster) connect() error { return p.conn.Open() }
func (p *poster) close()         { p.conn.Close() }
func (p *poster) wait()          {} // each beacon is answered before the next is sent

// send sends the next beacon and counts its answer into t.
func (p *poster) send(due time.Time, t *tally) {
	b := p.walk.next()
	if p.share > 0 && p.walk.rng.Float64() < p.share {
		p.hostile(b, t)
		return
	}
	p.buf = wire.Request(p.buf[:0], p.head, b.Bytes)
	b.Stamp(p.buf[len(p.buf)-len(b.Bytes):], &p.walk.id)
	a, err := p.conn.Do(p.buf)
	arm := t.arm(b.Arm)
	arm.Events += int64(b.Events)
	t.bytes += int64(len(b.Bytes))
	if err != nil {
		t.failed++
		return
	}
	t.statuses[a.Status]++
	if a.Status > 299 {
		return
	}
	accepted, shed := taken(a, b.Events)
	arm.Accepted += accepted
	arm.Shed += shed
	t.beacons++
	t.latency.add(time.Since(due))
}

// hostile sends a mutated body, which counts apart.
func (p *poster) hostile(b *corpus.Body, t *tally) {
	other := p.walk.bodies[p.walk.rng.IntN(len(p.walk.bodies))][0].Bytes
	body, _, packed := p.mut.Mutate(b.Bytes, other)
	head := p.head
	if packed {
		head = p.gzip
	}
	p.buf = wire.Request(p.buf[:0], head, body)
	t.hostile++
	if a, err := p.conn.Do(p.buf); err != nil {
		t.hostileStatuses[0]++
	} else {
		t.hostileStatuses[a.Status]++
	}
}
