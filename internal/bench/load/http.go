package load

import (
	"bufio"
	"net"
	"strconv"
	"time"

	"serin.dev/serin/internal/bench/corpus"
	"serin.dev/serin/internal/bench/mutate"
)

// patience is how long an answer may take before it counts as none.
const patience = 30 * time.Second

// poster is one connection that sends beacons by HTTP/1.1, one at a time.
type poster struct {
	host  string
	head  []byte // up to the body's length
	gzip  []byte // the same for bodies that are gzip
	walk  *walk
	conn  net.Conn
	r     *bufio.Reader
	buf   []byte
	a     answer
	share float64 // of hostile bodies
	mut   *mutate.Mutator
}

func newPoster(o *Options, host, key string, w *walk, n int) *poster {
	p := &poster{host: host, head: corpus.Head(o.Format, host, key), walk: w, share: o.Hostile}
	if o.Hostile > 0 {
		p.mut = mutate.New(o.Seed, uint64(n))
		p.gzip = p.head
		if o.Format != corpus.NativeGzip {
			p.gzip = append(append([]byte{}, p.head[:len(p.head)-len("Content-Length: ")]...), "Content-Encoding: gzip\r\nContent-Length: "...)
		}
	}
	return p
}

func (p *poster) connect() error {
	conn, err := net.DialTimeout("tcp", p.host, 10*time.Second)
	if err != nil {
		return err
	}
	p.conn = conn
	if p.r == nil {
		p.r = bufio.NewReaderSize(conn, 4096)
	}
	p.r.Reset(conn)
	return nil
}

func (p *poster) close() {
	if p.conn != nil {
		_ = p.conn.Close() // nothing is under way
		p.conn = nil
	}
}

// send sends the next beacon and counts its answer into t.
func (p *poster) send(due time.Time, t *tally) {
	b := p.walk.next()
	hostile := p.share > 0 && p.walk.rng.Float64() < p.share
	head, size := p.head, len(b.Bytes)
	if hostile {
		other := p.walk.bodies[p.walk.rng.IntN(len(p.walk.bodies))][0].Bytes
		body, _, packed := p.mut.Mutate(b.Bytes, other)
		if packed {
			head = p.gzip
		}
		size = len(body)
		p.buf = append(p.headOf(head, size), body...)
	} else {
		p.buf = append(p.headOf(head, size), b.Bytes...)
		b.Stamp(p.buf[len(p.buf)-size:], &p.walk.id)
	}
	err := p.exchange()
	if hostile {
		t.hostile++
		if err != nil {
			t.hostileStatuses[0]++
		} else {
			t.hostileStatuses[p.a.status]++
		}
		return
	}
	accepted, shed := int64(0), int64(0)
	if err == nil {
		accepted, shed = p.a.taken(b.Events)
		t.statuses[p.a.status]++
	} else {
		t.failed++
	}
	arm := t.arm(b.Arm)
	arm.Events += int64(b.Events)
	arm.Accepted += accepted
	arm.Shed += shed
	t.bytes += int64(size)
	if err == nil && p.a.status < 300 {
		t.beacons++
		t.latency.add(time.Since(due))
	}
}

func (p *poster) headOf(head []byte, size int) []byte {
	return append(strconv.AppendInt(append(p.buf[:0], head...), int64(size), 10), "\r\n\r\n"...)
}

// exchange writes the request in p.buf and reads its answer, on a new
// connection where the one before was closed.
func (p *poster) exchange() error {
	if p.conn == nil {
		if err := p.connect(); err != nil {
			return err
		}
	}
	if err := p.once(); err != nil {
		p.close()
		return err
	}
	if p.a.close {
		p.close()
	}
	return nil
}

func (p *poster) once() error {
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, werr := p.conn.Write(p.buf)
	// A server that refuses a long body answers before it has read all of it:
	// the answer counts, not that the rest could not be written.
	if err := p.a.read(p.r); err != nil {
		return err
	}
	if werr != nil {
		p.a.close = true
	}
	return nil
}
