package load

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"serin.dev/serin/internal/bench/corpus"
	"serin.dev/serin/internal/bench/wire"
)

// subprotocol is what the server's stream speaks.
const subprotocol = "serin.v1"

// streamer is one websocket that sends messages of several beacons and has a
// few of them unanswered at once.
type streamer struct {
	url      string
	walk     *walk
	inFlight int
	beacons  int // of a message
	conn     *websocket.Conn
	slots    chan struct{}
	buf      []byte

	mu      sync.Mutex
	gone    bool             // conn has ended; set by its reader
	open    map[int]*message // by the number of the message
	next    int
	tally   *tally // of the round
	pending sync.WaitGroup
}

// message is one that is not answered yet.
type message struct {
	due    time.Time
	bodies []*corpus.Body
	size   int
}

func dial(url string, from net.IP) (*websocket.Conn, error) {
	d := websocket.Dialer{Subprotocols: []string{subprotocol}, HandshakeTimeout: 30 * time.Second, ReadBufferSize: 512, WriteBufferSize: 4 << 10, WriteBufferPool: &writeBuffers,
		NetDial: (&net.Dialer{Timeout: 30 * time.Second, LocalAddr: local(from)}).Dial}
	conn, res, err := d.Dial(url, http.Header{})
	if err != nil && res != nil {
		return nil, fmt.Errorf("open a websocket: status %d: %w", res.StatusCode, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open a websocket: %w", err)
	}
	return conn, nil
}

// writeBuffers are shared: an idle connection needs none.
var writeBuffers sync.Pool

func local(from net.IP) net.Addr {
	if from == nil {
		return nil
	}
	return &net.TCPAddr{IP: from}
}

func newStreamer(o *Options, host, key string, w *walk) *streamer {
	return &streamer{url: "ws://" + host + "/v1/stream?key=" + key, walk: w, inFlight: o.InFlight, beacons: o.Batch / o.Events, open: map[int]*message{}}
}

func (s *streamer) connect() error {
	conn, err := dial(s.url, nil)
	if err != nil {
		return err
	}
	s.conn, s.slots = conn, make(chan struct{}, s.inFlight)
	s.mu.Lock()
	s.gone, s.next = false, 0
	s.mu.Unlock()
	go s.read(conn, s.slots)
	return nil
}

// send sends the next message as soon as there is a slot for it, and returns
// before it is answered.
func (s *streamer) send(due time.Time, t *tally) {
	if s.conn == nil {
		if err := s.connect(); err != nil {
			s.fail(t)
			time.Sleep(100 * time.Millisecond) // a server that is not there must not be hammered
			return
		}
	}
	s.slots <- struct{}{}
	m := &message{due: due}
	s.buf = s.buf[:0]
	for range s.beacons {
		b := s.walk.next()
		if len(s.buf) > 0 {
			s.buf = append(s.buf, '\n')
		}
		s.buf = append(s.buf, b.Bytes...)
		b.Stamp(s.buf[len(s.buf)-len(b.Bytes):], &s.walk.id)
		m.bodies = append(m.bodies, b)
	}
	m.size = len(s.buf)
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		s.conn = nil
		s.fail(t)
		return
	}
	s.tally = t
	s.pending.Add(1)
	s.open[s.next] = m
	s.next++
	s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(wire.Patience)) // an error shows in the write
	if err := s.conn.WriteMessage(websocket.TextMessage, s.buf); err != nil {
		_ = s.conn.Close() // the reader sees it, and counts what is open as failed
	}
}

func (s *streamer) fail(t *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.failed++
}

// read takes answers until the connection ends.
func (s *streamer) read(conn *websocket.Conn, slots chan struct{}) {
	var text bytes.Buffer
	for {
		// Longer than between two rounds: a server pings meanwhile.
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Minute)) // an error shows in the read
		_, r, err := conn.NextReader()
		if err == nil {
			text.Reset()
			_, err = text.ReadFrom(r)
		}
		if err != nil {
			break
		}
		number, ok := sum(text.Bytes(), `{"message":`)
		if !ok {
			continue // advice
		}
		s.mu.Lock()
		if m := s.open[int(number)]; m != nil {
			delete(s.open, int(number))
			s.tally.message(m, text.Bytes())
			s.pending.Done()
			<-slots
		}
		s.mu.Unlock()
	}
	_ = conn.Close() // nothing more is expected of it
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	for range s.open {
		s.tally.failed++
		s.pending.Done()
		<-slots
	}
	clear(s.open)
}

// message counts the answer to a message of beacons, which are answered in
// their order.
func (t *tally) message(m *message, text []byte) {
	t.bytes += int64(m.size)
	const key = `"accepted":` // of each beacon once, before its rejections
	_, text, _ = bytes.Cut(text, []byte(key))
	for _, b := range m.bodies {
		one, rest, _ := bytes.Cut(text, []byte(key))
		text = rest
		arm := t.arm(b.Arm)
		arm.Events += int64(b.Events)
		arm.Accepted += leading(one)
		shed, _ := sum(one, `"shed":`)
		arm.Shed += shed
		if bytes.Contains(one, []byte(`"error":`)) {
			t.statuses[statusRefused]++
			continue
		}
		t.statuses[statusAccepted]++
	}
	t.beacons++
	t.latency.add(time.Since(m.due))
}

// What a beacon of a websocket comes to, as the statuses of HTTP.
const (
	statusAccepted = 202
	statusRefused  = 503
)

func (s *streamer) close() {
	if s.conn != nil {
		_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second)) // the server may have gone
		_ = s.conn.Close()
		s.conn = nil
	}
}

// wait returns when all messages are answered, or given up.
func (s *streamer) wait() {
	done := make(chan struct{})
	go func() { s.pending.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(wire.Patience):
		s.close() // the reader counts what is open as failed
		<-done
	}
}
