package ingest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/gorilla/websocket"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/ingest/lot"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// Subprotocol is what a client names to speak version 1 of the stream.
const Subprotocol = "serin.v1"

// The bounds of a stream. Variables of a struct, so that tests need not wait.
type streamLimits struct {
	inFlight int           // messages that are not acknowledged yet; past it reading stops
	quiet    time.Duration // without a message, after which a stream is parked
	ping     time.Duration // between pings
	pong     time.Duration // without any frame, after which a client is gone
	idle     time.Duration // without a message, after which a stream is closed
	write    time.Duration // for one frame: a slower reader is cut off
	look     time.Duration // between looks at idleness and advice
}

var streamDefaults = streamLimits{inFlight: 64, quiet: 2 * time.Second, ping: 30 * time.Second, pong: 75 * time.Second, idle: 10 * time.Minute, write: 5 * time.Second, look: time.Second}

// streamParts is in how many parts the streams are looked at, one after the
// other: to look at 20,000 at once, and to ping them, would hold up beacons
// for tens of milliseconds where there is one core.
const streamParts = 32

// streams are the open streams of an edge.
type streams struct {
	mu      sync.Mutex
	parts   [streamParts]map[*stream]struct{}
	joined  uint64 // streams so far: of which part the next one is, and when it is pinged
	ending  bool
	done    sync.WaitGroup
	limits  streamLimits
	pool    sync.Pool // of write buffers, which idle streams do not hold
	bodies  sync.Pool // of *bytes.Buffer, for messages; likewise
	lot     *lot.Lot  // of quiet streams; made with the first stream
	lotless bool      // the system has none
}

// stream is one websocket.
type stream struct {
	edge   *Edge
	grant  *tenant.Grant
	part   int
	conn   *websocket.Conn
	last   atomic.Int64 // of the last message, Unix ns
	heard  atomic.Int64 // of the last frame, Unix ns
	pinged time.Time    // owned by watchStreams
	mu     sync.Mutex   // of writes
	advice string       // the last that was sent; owned by watchStreams
	closed atomic.Pointer[string]
	live   atomic.Bool   // a session of it takes part in a rollout
	kind   atomic.Uint32 // event.Tenancy of what it sent last: each has a quota of its own
	place  lot.Place     // where it is while it is quiet

	// Owned by the reader.
	settled  bool // it is not parked: there is no place, or it was refused
	client   admit.Client
	in       bufio.Reader // from which conn reads
	least    event.Tenancy
	messages int            // that were read
	slots    chan struct{}  // of messages in flight; made with the first
	waiting  sync.WaitGroup // for their answers
}

// ack answers for one beacon of a message. Either Error is there, or the rest.
type ack struct {
	Session  string      `json:"session,omitempty"`
	Seq      uint32      `json:"seq"`
	Index    int         `json:"index"` // of the beacon within its message
	Accepted int         `json:"accepted"`
	Rejected []rejection `json:"rejected,omitempty"`
	Shed     int         `json:"shed,omitempty"`
	Error    *nack       `json:"error,omitempty"`

	live    bool // its session takes part in a rollout
	tenancy event.Tenancy
	lost    int // events that are rejected with Error
}

// nack says why a beacon is not stored.
type nack struct {
	Reason event.Reason `json:"reason"`
	Field  string       `json:"field"`
	Value  string       `json:"value"`
	Want   string       `json:"want"`
	Retry  bool         `json:"retry"` // whether the same beacon may be sent again
}

// acks is the answer to one message; Message counts the connection's messages
// from 0.
type acks struct {
	Message int   `json:"message"`
	Acks    []ack `json:"acks"`
}

// stream serves a websocket: beacons as messages, several in one where they
// are parted by newlines, each acknowledged when it is stored and synced.
func (e *Edge) stream(w http.ResponseWriter, r *http.Request) {
	var a answer
	g, ref := e.authorize(&a, r.URL.Query().Get("key"), r.Header.Get("Origin"))
	var client admit.Client
	if ref == nil {
		client = e.perimeter.Client(g, peerOf(r), headerOf(r.Header), e.o.Now().UnixMilli())
		ref = e.crowded(&a, g, &client)
	}
	if ref != nil {
		refuse(&a, name(g), ref)
		a.writeTo(w)
		return
	}
	up := websocket.Upgrader{WriteBufferSize: 4 << 10, WriteBufferPool: &e.streams.pool, Subprotocols: []string{Subprotocol},
		CheckOrigin: func(*http.Request) bool { return true }, // the key's list was asked above
		Error: func(w http.ResponseWriter, r *http.Request, status int, _ error) {
			field, want := unlikeHandshake(r)
			refuse(&a, g.Tenant.String(), &refusal{status, event.ReasonEncoding, field, r.Header.Get(field), want})
			a.writeTo(w)
		}}
	s := &stream{edge: e, grant: g, client: client, least: max(admit.Claimed(headerOf(r.Header)("Baggage")), own(g))}
	h := &hijacked{ResponseWriter: w, in: &s.in}
	conn, err := up.Upgrade(h, r, nil)
	if err != nil {
		return // answered by the upgrader
	}
	s.conn = conn
	s.kind.Store(uint32(s.least))
	now := time.Now()
	s.last.Store(now.UnixNano())
	s.heard.Store(now.UnixNano())
	if !e.streams.add(s) {
		s.end(websocket.CloseGoingAway, "shutdown", e.streams.limits.write)
		_ = conn.Close() // nothing is in flight
		return
	}
	conn.SetReadLimit(event.MaxBody)
	// It waits for the first message parked. Else it has a goroutine of its own, that
	// net/http's may end, which would hold its buffers and its grown stack for as long as it
	// serves the stream. Goroutines that have ended stay in the runtime's list, and each
	// collection of garbage looks at them: 20,000 clients that come back at once must not
	// have one each.
	if !s.park() {
		go e.serve(s)
	}
}

// openStreams counts the websockets that are open.
func openStreams() *metrics.Gauge { return metrics.GetOrCreateGauge("serin_ingest_streams_open", nil) }

func (ss *streams) add(s *stream) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.limits.inFlight == 0 {
		ss.limits = streamDefaults
	}
	if ss.ending {
		return false
	}
	ss.find(s)
	s.part = int(ss.joined % streamParts)
	if ss.parts[s.part] == nil {
		ss.parts[s.part] = map[*stream]struct{}{}
	}
	ss.parts[s.part][s] = struct{}{}
	ss.done.Add(1)
	// The first ping comes at a time of the stream's own: those that all came
	// back at once, to a server that was started anew, would be pinged at once.
	// By the golden ratio's multiples they are evenly apart, however many they are.
	ss.joined++
	phase := ss.joined * 0x9e3779b97f4a7c15 // of 2⁶⁴
	s.pinged = time.Now().Add(-time.Duration(float64(phase>>11) / (1 << 53) * float64(ss.limits.ping)))
	openStreams().Inc()
	return true
}

func (ss *streams) remove(s *stream) {
	ss.mu.Lock()
	delete(ss.parts[s.part], s)
	ss.mu.Unlock()
	reason := "client"
	if p := s.closed.Load(); p != nil {
		reason = *p
	}
	openStreams().Dec()
	metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_streams_closed_total{reason=%q}`, reason)).Inc()
	ss.done.Done()
}

// Streams returns how many websockets are open.
func (e *Edge) Streams() int {
	e.streams.mu.Lock()
	defer e.streams.mu.Unlock()
	n := 0
	for _, part := range e.streams.parts {
		n += len(part)
	}
	return n
}

// maxKeptBody is the largest buffer that is kept for other messages.
const maxKeptBody = 256 << 10

// unlikeHandshake returns the header in which a request is no handshake of a websocket,
// in the order in which the library looks, and what it should be (RFC 6455, section
// 4.2.1).
func unlikeHandshake(r *http.Request) (field, want string) {
	for _, h := range []struct{ field, token string }{{"Connection", "upgrade"}, {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}} {
		has := func(token string) bool { return strings.EqualFold(strings.TrimSpace(token), h.token) }
		if !slices.ContainsFunc(strings.Split(strings.Join(r.Header.Values(h.field), ","), ","), has) {
			return h.field, h.token + ", as a websocket's handshake has it"
		}
	}
	return "Sec-WebSocket-Key", "16 bytes in base64, as a websocket's handshake has them"
}

// receive reads a message of a stream, decodes it, and has it answered when it is
// stored. An error is the connection's.
func (e *Edge) receive(s *stream, kind int, r io.Reader) error {
	limits := &e.streams.limits
	body, _ := e.streams.bodies.Get().(*bytes.Buffer)
	if body == nil {
		body = new(bytes.Buffer)
	}
	defer func() {
		if body.Cap() <= maxKeptBody {
			body.Reset()
			e.streams.bodies.Put(body)
		}
	}()
	if _, err := body.ReadFrom(r); err != nil {
		return err
	}
	s.last.Store(time.Now().UnixNano())
	if s.slots == nil {
		s.slots = make(chan struct{}, limits.inFlight)
	}
	s.slots <- struct{}{} // past the bound a client's messages wait in its own buffers
	answer := acks{Message: s.messages}
	s.messages++
	var groups []*pendingGroup
	if kind != websocket.TextMessage {
		answer.Acks = []ack{{Error: &nack{event.ReasonEncoding, "message", "binary", "a text message", false}}}
	} else {
		answer.Acks, groups = e.message(s.grant, &s.client, s.least, body.Bytes())
		if first := &answer.Acks[0]; first.Error == nil { // one stream, one client
			s.kind.Store(uint32(first.tenancy))
			if first.live {
				s.live.Store(true)
			}
		}
	}
	s.waiting.Go(func() {
		defer func() { <-s.slots }()
		start := time.Now()
		for i, g := range groups {
			if g == nil {
				continue
			}
			<-g.done // bounded by the batcher's own time limit
			if g.err != nil {
				answer.Acks[i].Accepted, answer.Acks[i].Error = 0, &nack{event.ReasonBusy, "journal", "", "a journal with room; send the same beacon again", true}
			}
		}
		took := time.Since(start)
		if len(groups) > 0 {
			e.gate.Waited(took)
			e.metrics.ack.Update(took.Seconds())
		}
		e.countAcks(s.grant, answer.Acks)
		s.write(answer.text(), limits.write)
	})
	return nil
}

// text returns an answer as JSON.
func (a *acks) text() []byte {
	b := append(make([]byte, 0, 32+96*len(a.Acks)), `{"message":`...)
	b = strconv.AppendInt(b, int64(a.Message), 10)
	b = append(b, `,"acks":[`...)
	for i := range a.Acks {
		if i > 0 {
			b = append(b, ',')
		}
		one := &a.Acks[i]
		if one.Error != nil || len(one.Rejected) > 0 || one.Shed > 0 || one.Session == "" {
			text, err := json.Marshal(one)
			if err != nil {
				panic("BUG: an answer is no JSON: " + err.Error())
			}
			b = append(b, text...)
			continue
		}
		// Nearly all of them. A session's id has no character that JSON escapes.
		b = append(append(append(b, `{"session":"`...), one.Session...), `","seq":`...)
		b = strconv.AppendUint(b, uint64(one.Seq), 10)
		b = strconv.AppendInt(append(b, `,"index":`...), int64(one.Index), 10)
		b = strconv.AppendInt(append(b, `,"accepted":`...), int64(one.Accepted), 10)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// message decodes the beacons of one message and puts them into the open
// group. It returns an answer for each, and for each that is stored the group
// that it waits for.
func (e *Edge) message(g *tenant.Grant, client *admit.Client, least event.Tenancy, body []byte) ([]ack, []*pendingGroup) {
	d := e.decoders.Get().(*decoding)
	defer e.decoders.Put(d)
	var answers []ack
	var groups []*pendingGroup
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(answers) == event.MaxEvents {
			answers = append(answers, ack{Index: len(answers), Error: &nack{event.ReasonCount, "message", "more", fmt.Sprintf("at most %d beacons in a message", event.MaxEvents), false}})
			return answers, append(groups, nil)
		}
		a, group := e.one(g, client, least, d, line)
		a.Index = len(answers)
		answers, groups = append(answers, a), append(groups, group)
	}
	if len(answers) == 0 {
		answers, groups = []ack{{Error: &nack{event.ReasonJSON, "body", "", "a beacon in JSON", false}}}, []*pendingGroup{nil}
	}
	return answers, groups
}

func (e *Edge) one(g *tenant.Grant, client *admit.Client, least event.Tenancy, d *decoding, body []byte) (ack, *pendingGroup) {
	// The batcher's and the tasters' own time limits bound it.
	bad, ref := e.decodeNative(context.Background(), d, g, &head{client: *client}, body)
	e.breaker.note(sender{g.KeyID, client.Prefix}, ref.weight())
	if ref != nil {
		return ack{Error: &nack{ref.reason, ref.field, shortened(ref.value), ref.want, ref.status == http.StatusServiceUnavailable || ref.status == http.StatusTooManyRequests}}, nil
	}
	b := &d.beacon
	b.Tenancy = max(b.Tenancy, least)
	a := ack{Session: b.Session, Seq: b.Seq}
	sent := len(b.Events) + len(bad)
	a.lost = sent
	now := e.o.Now().UnixMilli()
	e.perimeter.Refresh(client, g, now)
	whole, late := admit.Beacon(g, client, &d.memo, b, now)
	if whole != nil && unwanted(whole) {
		rejected("event", g.Tenant.String(), whole.Reason, sent)
		a.Rejected = []rejection{{whole.Index, whole.Reason, whole.Field, whole.Value, whole.Want}}
		return a, nil
	}
	if whole != nil {
		a.Error = &nack{whole.Reason, whole.Field, whole.Value, whole.Want, false}
		return a, nil
	}
	a.Shed = e.gate.Shed(g, b)
	a.lost -= a.Shed
	e.cardinality.Bound(g, client, &d.memo, b, now)
	a.live, a.tenancy = e.gate.Enrolled(g, b), b.Tenancy
	a.Accepted, a.Rejected = len(b.Events), rejections(sent, bad, late)
	group, err := e.batcher.put(g.Tenant, b)
	if err != nil {
		return ack{Session: b.Session, Seq: b.Seq, lost: a.lost, Error: &nack{event.ReasonBusy, "journal", err.Error(), "a journal with room; send the same beacon again", true}}, nil
	}
	return a, group
}

func (e *Edge) countAcks(g *tenant.Grant, list []ack) {
	name := g.Tenant.String()
	for i := range list {
		a := &list[i]
		if a.Error != nil {
			rejected("beacon", name, a.Error.Reason, 1)
			if a.lost > 0 {
				rejected("event", name, a.Error.Reason, a.lost)
			}
			continue
		}
		e.metrics.accepted.Add(a.Accepted)
		e.metrics.beacons.Inc()
		for _, r := range a.Rejected {
			if r.Index >= 0 { // else the beacon was counted as a whole
				rejected("event", name, r.Reason, 1)
			}
		}
	}
}

// send writes v as one frame, as JSON. A client that does not read is cut off: what it was
// not told it sends again.
func (s *stream) send(v any, limit time.Duration) {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: an answer is no JSON: " + err.Error())
	}
	s.write(text, limit)
}

func (s *stream) write(text []byte, limit time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(limit)) // an error shows in the write
	if err := s.conn.WriteMessage(websocket.TextMessage, text); err != nil {
		s.note("slow")
		s.cut()
	}
}

// cut closes the connection, of which the reader sees to the rest.
func (s *stream) cut() {
	_ = s.conn.Close()
	s.place.Wake()
}

// note keeps the first reason for which a stream ends.
func (s *stream) note(reason string) { s.closed.CompareAndSwap(nil, &reason) }

// end tells the client that the stream ends.
func (s *stream) end(code int, reason string, limit time.Duration) {
	s.note(reason)
	// The client may have gone: then there is nobody to tell.
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(limit))
}

// watchStreams pings the streams, ends idle ones and tells their clients which
// classes to hold, until ctx ends; then it ends all of them, each when what it
// has read is answered. One loop for all: an idle stream costs no timer and no
// goroutine but its reader's. Each stream is looked at once in limits.look.
func (e *Edge) watchStreams(ctx context.Context) {
	ss := &e.streams
	ss.mu.Lock()
	if ss.limits.inFlight == 0 {
		ss.limits = streamDefaults
	}
	limits := ss.limits
	ss.mu.Unlock()
	t := time.NewTicker(max(limits.look/streamParts, time.Microsecond))
	defer t.Stop()
	var list []*stream
	for part := 0; ; part = (part + 1) % streamParts {
		select {
		case now := <-t.C:
			list = ss.list(list[:0], part)
			for _, s := range list {
				e.look(s, now, &limits)
			}
			clear(list) // holds no stream that has ended
		case <-ctx.Done():
			ss.mu.Lock()
			ss.ending = true
			ss.mu.Unlock()
			for part := range streamParts {
				for _, s := range ss.list(nil, part) {
					s.note("shutdown")
					_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; what it has is still answered
					s.place.Wake()
				}
			}
			ss.done.Wait()
			return
		}
	}
}

// list appends the streams of a part.
func (ss *streams) list(list []*stream, part int) []*stream {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for s := range ss.parts[part] {
		list = append(list, s)
	}
	return list
}

func (e *Edge) look(s *stream, now time.Time, limits *streamLimits) {
	if now.UnixNano()-s.last.Load() > int64(limits.idle) {
		s.end(websocket.CloseNormalClosure, "idle", limits.write)
		s.cut()
		return
	}
	if now.UnixNano()-s.heard.Load() > int64(limits.pong) {
		s.note("client") // which has gone
		s.cut()
		return
	}
	if now.Sub(s.pinged) >= limits.ping {
		s.pinged = now
		_ = s.conn.WriteControl(websocket.PingMessage, nil, now.Add(limits.write)) // a lost client is found by its missing pong
	}
	if advice := e.gate.Advice(s.grant, event.Tenancy(s.kind.Load()), s.live.Load()); advice != s.advice {
		s.advice = advice
		go s.send(map[string]string{"classes": advice}, limits.write) // a slow reader must not hold up the others
	}
}
