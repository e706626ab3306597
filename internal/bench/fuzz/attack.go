package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"serin.dev/serin/internal/bench/mutate"
	"serin.dev/serin/internal/bench/wire"
)

// shares say how many of a hundred mutated beacons are of a protocol. Those
// that are decoded in this process have most, since what breaks there breaks
// the server; those of others take longer and are many.
var shares = []struct {
	protocol string
	percent  int
}{{"native", 52}, {"stream", 20}, {"frames", 4}, {"requests", 4}, {"faro", 5}, {"sentry", 5}, {"otlp", 5}, {"reports", 2}, {"elastic", 1}, {"datadog", 1}, {"vitals", 1}}

// counts are what became of mutated beacons.
type counts struct {
	mu       sync.Mutex
	sent     map[string]int64 // by protocol
	kinds    map[string]int64 // by mutation
	statuses map[string]int64 // by protocol and status
	total    int64
	fault    error // the first that must not be
}

func newCounts() *counts {
	return &counts{sent: map[string]int64{}, kinds: map[string]int64{}, statuses: map[string]int64{}}
}

func (c *counts) add(protocol string, kind mutate.Kind, status string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent[protocol] += n
	c.kinds[kind.String()] += n
	c.statuses[protocol+" "+status] += n
	c.total += n
}

func (c *counts) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault == nil {
		c.fault = err
	}
}

func (c *counts) failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault != nil
}

func (c *counts) sum() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// attacker is one connection of a hostile client.
type attacker struct {
	host  string
	seeds map[string][]seed
	keys  []string
	rng   *rand.Rand
	mut   *mutate.Mutator
	conn  wire.Conn
	buf   []byte
	out   *counts
}

// messages is how many mutated messages one websocket carries.
const messages = 32

// run sends until n beacons are sent by all.
func (a *attacker) run(ctx context.Context, n int64) {
	defer a.conn.Close()
	for ctx.Err() == nil && !a.out.failed() && a.out.sum() < n {
		p := a.rng.IntN(100)
		for _, s := range shares {
			if p -= s.percent; p >= 0 {
				continue
			}
			switch s.protocol {
			case "stream", "frames":
				// A websocket carries many, so it is opened as much less often.
				if a.rng.IntN(messages) == 0 {
					a.stream(s.protocol)
				}
			case "requests":
				a.raw()
			default:
				a.post(s.protocol)
			}
			break
		}
	}
}

func (a *attacker) pick(protocol string) (one, other *seed) {
	list := a.seeds[protocol]
	return &list[a.rng.IntN(len(list))], &list[a.rng.IntN(len(list))]
}

// from is the header line by which each mutated beacon comes from another
// network: from one network the server's breaker would refuse most of them
// before they are read.
func (a *attacker) from() string {
	return fmt.Sprintf("X-Forwarded-For: %d.%d.%d.1\r\n", 1+a.rng.IntN(126), a.rng.IntN(256), a.rng.IntN(256))
}

func (a *attacker) key() string { return a.keys[a.rng.IntN(len(a.keys))] }

// post sends a mutated body in a good request, which must be answered.
func (a *attacker) post(protocol string) {
	s, other := a.pick(protocol)
	if a.rng.IntN(20) == 0 { // a body of another protocol
		_, other = a.pick(shares[a.rng.IntN(2)].protocol)
	}
	body, kind, packed := a.mut.Mutate(s.body, other.body)
	a.buf = wire.Request(a.buf[:0], s.head(a.host, a.key(), a.from(), packed), body)
	res, err := a.conn.Do(a.buf)
	switch {
	case err == nil:
		a.out.add(protocol, kind, strconv.Itoa(res.Status), 1)
		if res.Status >= 500 && res.Status != 503 {
			a.out.fail(fmt.Errorf("%s: status %d: %s\nto %q", protocol, res.Status, res.Body, clip(a.buf)))
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.out.fail(fmt.Errorf("%s: no answer within %v to %q", protocol, wire.Patience, clip(a.buf)))
	default:
		// A server may close a connection on which too long a body comes, and
		// its answer may be lost with it.
		a.out.add(protocol, kind, "closed", 1)
		if len(body) < 64<<10 {
			a.out.fail(fmt.Errorf("%s: %w, after a body of %d bytes: %q", protocol, err, len(body), clip(a.buf)))
		}
	}
}

func clip(text []byte) []byte { return text[:min(len(text), 2048)] }

// raw sends bytes that were a request, its head mutated too. What comes of it
// is the server's to say; that it ends is looked at elsewhere.
func (a *attacker) raw() {
	s, other := a.pick("native")
	a.buf = wire.Request(a.buf[:0], s.head(a.host, a.key(), a.from(), false), s.body)
	request := a.buf
	if i := slices.Index(request, '{'); i > 0 && a.rng.IntN(2) == 0 {
		// The head is short beside the body, and is what is meant here.
		head, _, _ := a.mut.Mutate(request[:i], other.body)
		request = append(slices.Clone(head), request[i:]...)
	} else {
		request, _, _ = a.mut.Mutate(request, other.body)
	}
	conn, err := net.DialTimeout("tcp", a.host, 10*time.Second)
	if err != nil {
		a.out.fail(fmt.Errorf("open a connection: %w", err))
		return
	}
	defer conn.Close()
	a.out.add("requests", mutate.Flip, a.drain(conn, request), 1)
}

// drain writes bytes, says that there are no more, and reads what comes.
func (a *attacker) drain(conn net.Conn, text []byte) string {
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second)) // an error shows in the read
	_, _ = conn.Write(text)                               // the server may have refused it before its end
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // likewise
	}
	n, err := io.Copy(io.Discard, conn)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "open"
	case n == 0:
		return "closed"
	}
	return "answered"
}

// stream opens a websocket and sends mutated messages in good frames, or
// mutated frames.
func (a *attacker) stream(protocol string) {
	conn, err := net.DialTimeout("tcp", a.host, 10*time.Second)
	if err != nil {
		a.out.fail(fmt.Errorf("open a connection: %w", err))
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(wire.Patience)) // an error shows in the read
	fmt.Fprintf(conn, "GET /v1/stream?key=%s HTTP/1.1\r\nHost: %s\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: serin.v1\r\n\r\n", a.key(), a.host, a.from())
	line, err := bufio.NewReaderSize(conn, 16).ReadSlice(' ')
	if err != nil || len(line) == 0 {
		a.out.fail(fmt.Errorf("open a websocket: %q: %w", line, err))
		return
	}
	var text []byte
	kinds := make([]mutate.Kind, messages)
	for i := range kinds {
		s, other := a.pick("stream")
		body, kind, _ := a.mut.Mutate(s.body, other.body)
		kinds[i] = kind
		text = a.frame(text, body)
		if protocol == "frames" && i%4 == 3 {
			broken, _, _ := a.mut.Mutate(text, nil)
			text = append(text[:0], broken...)
		}
		if len(text) > 256<<10 {
			kinds = kinds[:i+1]
			break
		}
	}
	// What the server says must be read beside, or neither goes on.
	status := make(chan string, 1)
	go func() {
		n, err := io.Copy(io.Discard, conn)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			status <- "open"
		case n == 0:
			status <- "closed"
		default:
			status <- "answered"
		}
	}()
	_, _ = conn.Write(text) // the server may have closed it by a frame before
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // likewise
	}
	end := <-status
	if end == "open" {
		a.out.fail(fmt.Errorf("%s: the server keeps a websocket whose client has gone for %v", protocol, wire.Patience))
	}
	for _, k := range kinds {
		a.out.add(protocol, k, end, 1)
	}
}

// frame appends a client's frame: of text, masked, whole.
func (a *attacker) frame(to, body []byte) []byte {
	to = append(to, 0x81)
	switch n := len(body); {
	case n < 126:
		to = append(to, 0x80|byte(n))
	case n < 1<<16:
		to = binary.BigEndian.AppendUint16(append(to, 0x80|126), uint16(n))
	default:
		to = binary.BigEndian.AppendUint64(append(to, 0x80|127), uint64(n))
	}
	mask := a.rng.Uint32()
	var m [4]byte
	binary.BigEndian.PutUint32(m[:], mask)
	to = append(to, m[:]...)
	for i, c := range body {
		to = append(to, c^m[i%4])
	}
	return to
}
