// Package dialect is what the decoders of foreign protocols share: the request
// as they see it, and the [Builder] that holds what they find to the limits of
// event schema version 1 and sorts it into beacons. A decoder is a pure
// function of a [Request]; the edge turns what it returns into the answer that
// the protocol's SDK understands.
package dialect

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/mileusna/useragent"
	"github.com/valyala/fastjson"

	"serin.dev/serin/internal/event"
)

// ErrMalformed is what every error of a decoder is, by errors.Is.
var ErrMalformed = errors.New("malformed body")

// Error says why a whole body is refused.
type Error struct {
	Reason event.Reason
	Field  string
	Value  string // at most 64 bytes
	Want   string
}

// Error names the field, the value and what is allowed.
func (e *Error) Error() string {
	return fmt.Sprintf("malformed body: %s: %q: want %s", e.Field, e.Value, e.Want)
}

// Is reports whether target is [ErrMalformed].
func (e *Error) Is(target error) bool { return target == ErrMalformed }

// maxNesting is the parser's bound.
const maxNesting = 300

var _ = [1]struct{}{}[maxNesting-fastjson.MaxDepth] // they are the same

// NotJSON is the error for a text that is no JSON, or nested too deep to be read.
func NotJSON(text []byte) *Error {
	return &Error{Reason: event.ReasonJSON, Field: "body", Value: Clip(string(text[:min(len(text), 64)]), 64),
		Want: fmt.Sprintf("JSON in UTF-8, at most %d values within one another", maxNesting)}
}

// Request is one request of a foreign SDK.
type Request struct {
	Method string
	Target *url.URL
	Header map[string]string // names in lower case
	Body   []byte            // inflated
	Now    int64             // receive time, Unix ms
	App    string            // the key's app; empty: the app that the body names
	Key    string            // the public key; keys the hash of users
	Peer   string            // keyed hash of the client's address, another one each day; for sessions that have no name
	Memory *Memory           // where what is decoded lives; nil: memory of its own

	Tenancy event.Tenancy // of a native beacon that names none: the key's

	parsers []*fastjson.Parser
}

var parsers fastjson.ParserPool

// JSON parses a text that is a part of the body, or all of it. The value is
// good until [Request.Done].
func (r *Request) JSON(text []byte) (*fastjson.Value, error) {
	p := parsers.Get()
	r.parsers = append(r.parsers, p)
	return p.ParseBytes(text)
}

// Done lets the memory of what was parsed be used again. What a decoder
// returned does not lie in it.
func (r *Request) Done() {
	for _, p := range r.parsers {
		parsers.Put(p)
	}
	r.parsers = nil
}

// Query returns a parameter of the target.
func (r *Request) Query(name string) string {
	if r.Target == nil {
		return ""
	}
	return r.Target.Query().Get(name)
}

// Rejection says why one event is left out.
type Rejection struct {
	Index  int // number of the item in the body, from 0
	Reason event.Reason
	Field  string
	Value  string
	Want   string
}

// Result is what a body was decoded into. The beacons are in the request's
// [Memory], until that is decoded into again.
type Result struct {
	Beacons  []event.Beacon
	Rejected []Rejection
	Ignored  map[string]int  // what the protocol has and Serin does not use, by item type
	Drops    []event.Dropped // what the client says that it left out
}

// Events returns how many events the beacons hold.
func (r *Result) Events() int {
	n := 0
	for i := range r.Beacons {
		n += len(r.Beacons[i].Events)
	}
	return n
}

// Source says who observed an event: all events of one source are one beacon.
type Source struct {
	SDK     string
	App     string
	Release string
	Session string
	User    string
	Tenancy string
	Env     string
	Sent    int64 // client's clock at sending, Unix ms; 0 where the protocol does not say
	Ctx     event.Context
}

// Builder sorts events into beacons. Make it with [NewBuilder].
type Builder struct {
	req  *Request
	res  Result
	m    *Memory
	last Source // of the newest event: most are of one source
	at   int    // where its beacon is
	n    int
	name string // of the newest user, and what it was hashed to
	hash string
}

// NewBuilder returns an empty builder for a request.
func NewBuilder(r *Request) *Builder {
	m := r.memory()
	m.begin()
	return &Builder{req: r, m: m, res: Result{Beacons: m.beacons}}
}

// Ignore counts an item of a type that Serin does not use.
func (b *Builder) Ignore(item string) {
	if b.res.Ignored == nil {
		b.res.Ignored = map[string]int{}
	}
	b.res.Ignored[Clip(item, event.MaxName)]++
}

// Drop counts what the client itself left out.
func (b *Builder) Drop(cause string, n int64) {
	if n > 0 && len(b.res.Drops) < event.MaxDrops {
		b.res.Drops = append(b.res.Drops, event.Dropped{Cause: Clip(cause, event.MaxName), Count: n})
	}
}

// Reject leaves an item out.
func (b *Builder) Reject(reason event.Reason, field, value, want string) {
	b.res.Rejected = append(b.res.Rejected, Rejection{b.n, reason, field, Clip(value, 64), want})
	b.n++
}

// Add puts an event into the beacon of its source. Texts are cut at their
// limits; a source that lacks what every beacon must have, and a value that
// cannot be, reject the event.
func (b *Builder) Add(s Source, e event.One) {
	tenancy, ok := b.fit(&s, &e)
	if !ok {
		return
	}
	if len(b.res.Beacons) == 0 || s != b.last || len(b.res.Beacons[b.at].Events) == event.MaxEvents {
		b.turn(&s, tenancy)
	}
	bc := &b.res.Beacons[b.at]
	bc.Events = append(bc.Events, e)
}

// Once is [Builder.Add] for what a protocol tells again and again while it
// holds: the event is a beacon of its own, whose number is a hash of nothing
// else, so that it counts once however many bodies tell it.
func (b *Builder) Once(s Source, e event.One) {
	tenancy, ok := b.fit(&s, &e)
	if !ok {
		return
	}
	one := b.open(&s, tenancy)
	one.Events = append(one.Events, e)
	b.res.Beacons = append(b.res.Beacons, one)
	b.m.add(&Source{}) // which no event has: nothing else comes into it
}

// fit holds an event against the limits, and returns its tenancy; false where
// it was rejected.
func (b *Builder) fit(s *Source, e *event.One) (event.Tenancy, bool) {
	switch {
	case s.Session == "":
		b.Reject(event.ReasonMissing, "session", "", "the id of the session, on the item or its batch")
		return 0, false
	case b.req.App == "" && s.App == "":
		b.Reject(event.ReasonMissing, "app", "", "the name of the app, in the body or bound to the key")
		return 0, false
	case s.Release == "":
		b.Reject(event.ReasonMissing, "release", "", "the version of the app")
		return 0, false
	case e.HasVal && (math.IsNaN(e.Value) || math.Abs(e.Value) > event.MaxMagnitude):
		b.Reject(event.ReasonRange, e.Name, fmt.Sprint(e.Value), fmt.Sprintf("a number of at most %g", float64(event.MaxMagnitude)))
		return 0, false
	case e.HasVal && e.Value < 0 && e.Kind != event.Metric && e.Kind != event.Event:
		b.Reject(event.ReasonRange, e.Name, fmt.Sprint(e.Value), "0 or more")
		return 0, false
	}
	tenancy, err := event.ParseTenancy(s.Tenancy)
	if err != nil {
		b.Reject(event.ReasonName, "tenancy", s.Tenancy, "production, test, shadow or synthetic")
		return 0, false
	}
	b.n++
	if e.Time == 0 {
		e.Time = b.req.Now
	}
	e.Name = Clip(e.Name, event.MaxName)
	if e.Name == "" {
		e.Name = e.Kind.String()
	}
	e.Unit = Clip(e.Unit, event.MaxUnit)
	e.Message = Clip(e.Message, event.MaxMessage)
	e.Stack = Clip(e.Stack, event.MaxStack)
	if len(e.Attrs) > event.MaxAttrs {
		e.Attrs = e.Attrs[:event.MaxAttrs]
	}
	for i := range e.Attrs {
		a := &e.Attrs[i]
		a.Key, a.Text = Clip(a.Key, event.MaxName), Clip(a.Text, event.MaxText)
		if a.Num && (math.IsNaN(a.Number) || math.Abs(a.Number) > event.MaxMagnitude) {
			a.Num, a.Number, a.Text = false, 0, "not a number"
		}
	}
	return tenancy, true
}

// maxAheadMS is by how much a client's clock may be ahead where nothing says what
// it was at the sending: a wrong time zone, and no wrong year.
const maxAheadMS = 24 * 60 * 60_000

// turn goes to the beacon of a source, or opens one where it has none with room.
func (b *Builder) turn(s *Source, tenancy event.Tenancy) {
	m := b.m
	at, ok := m.find(s)
	if !ok || len(b.res.Beacons[at].Events) == event.MaxEvents {
		at = len(b.res.Beacons)
		b.res.Beacons = append(b.res.Beacons, b.open(s, tenancy))
		m.add(s)
	}
	b.last, b.at = *s, at
}

// roomFor is for how many events a beacon has room from its beginning.
const roomFor = 8

func (b *Builder) open(s *Source, tenancy event.Tenancy) event.Beacon {
	app := b.req.App
	if app == "" {
		app = s.App
	}
	ctx := s.Ctx
	for _, p := range []*string{&ctx.Platform, &ctx.OS, &ctx.Browser, &ctx.Device, &ctx.Network, &ctx.Page} {
		*p = Clip(*p, event.MaxText)
	}
	ctx.Env = Clip(s.Env, event.MaxName)
	sent := s.Sent
	if sent == 0 {
		sent = b.req.Now
	}
	return event.Beacon{Events: b.m.list(), SDK: Clip(s.SDK, event.MaxName), App: Clip(app, event.MaxName), Release: event.Release(Clip(s.Release, event.MaxName)),
		Tenancy: tenancy, Session: SessionID(s.Session), User: b.user(s.User), Sent: sent, Ctx: ctx}
}

// user hashes what the client calls its user, since foreign SDKs send names
// and addresses; the key makes hashes of two tenants unlike.
func (b *Builder) user(name string) string {
	if name == "" {
		return ""
	}
	if name == b.name { // as of most beacons of a body
		return b.hash
	}
	m := b.m
	m.scratch = append(append(append(m.scratch[:0], b.req.Key...), 0), name...)
	sum := sha256.Sum256(m.scratch)
	b.name, b.hash = name, m.Own(hex.AppendEncode(append(m.scratch[:0], "h:"...), sum[:12]))
	return b.hash
}

// Result ends the building. Each beacon gets its number: foreign protocols
// count nothing, so it is a hash of the beacon's content, from
// [event.Unordered] on, by which a retry of the same content counts once.
func (b *Builder) Result() Result {
	text := b.m.text
	for i := range b.res.Beacons {
		bc := &b.res.Beacons[i]
		text = text[:0]
		word := func(s string) { text = append(append(text, s...), 0) }
		number := func(f float64) { text = binary.LittleEndian.AppendUint64(text, math.Float64bits(f)) }
		for j := range bc.Events {
			e := &bc.Events[j]
			word(e.Kind.String())
			word(e.Name)
			if e.Time != b.req.Now {
				text = binary.LittleEndian.AppendUint64(text, uint64(e.Time))
			}
			number(e.Value)
			word(e.Message)
			for k := range e.Attrs {
				a := &e.Attrs[k]
				word(a.Key)
				word(a.Text)
				number(a.Number)
			}
		}
		sum := xxhash.Sum64(text)
		bc.Seq = event.Unordered | uint32(sum^sum>>32)
		if bc.Sent == b.req.Now { // which is not known
			hold(bc, b.req.Now)
		}
	}
	b.m.text = text
	b.m.beacons = b.res.Beacons
	return b.res
}

// hold takes events that cannot be from after the receipt for events of it: where
// nothing says what the client's clock was at the sending, one that is ahead shows
// in them alone.
func hold(bc *event.Beacon, now int64) {
	for i := range bc.Events {
		if e := &bc.Events[i]; e.Time > now && e.Time <= now+maxAheadMS {
			e.Time = now
		}
	}
}

// SessionID makes a session's id of whatever a protocol calls one: ids that
// the schema allows stay, others are hashed.
func SessionID(s string) string {
	ok := len(s) >= event.MinSession && len(s) <= event.MaxSession
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
	}
	if ok {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "x" + hex.EncodeToString(sum[:12])
}

// anonymousMS is how long what one browser sends without a session's id is
// taken for one session.
const anonymousMS = 30 * 60_000

// Anonymous returns a session for protocols that name none: one for each
// client address and user agent in half an hour. The address itself is not
// known here: a keyed hash of it is, which changes daily.
func Anonymous(r *Request, agent string, at int64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d", r.Key, r.Peer, agent, at/anonymousMS))
	return "a" + hex.EncodeToString(sum[:12])
}

// agents are what was found out about user agents, which are many words and
// few texts. They are forgotten all at once when there are too many.
var agents struct {
	sync.Mutex
	known map[string]agent
}

const maxAgents = 4096

type agent struct{ browser, os, device string }

// Agent fills a context from a user agent's name for itself.
func Agent(ctx *event.Context, name string) {
	if name == "" {
		return
	}
	name = Clip(name, 512)
	agents.Lock()
	a, ok := agents.known[name]
	agents.Unlock()
	if !ok {
		a = parseAgent(name)
		agents.Lock()
		if agents.known == nil || len(agents.known) == maxAgents {
			agents.known = map[string]agent{}
		}
		agents.known[strings.Clone(name)] = a
		agents.Unlock()
	}
	ctx.Platform, ctx.Browser, ctx.OS = "web", a.browser, a.os
	if a.device != "" {
		ctx.Device = a.device
	}
}

func parseAgent(name string) (a agent) {
	ua := useragent.Parse(name)
	major, _, _ := strings.Cut(ua.Version, ".")
	a.browser = strings.TrimSpace(ua.Name + " " + major)
	major, _, _ = strings.Cut(ua.OSVersion, ".")
	a.os = strings.TrimSpace(ua.OS + " " + major)
	switch {
	case ua.Tablet:
		a.device = "tablet"
	case ua.Mobile:
		a.device = "mobile"
	case ua.Desktop:
		a.device = "desktop"
	}
	return a
}

// Path returns the path of a URL: queries and fragments carry names, tokens
// and addresses, and are never kept.
func Path(raw string) string {
	_, path := split(withoutQuery(raw))
	return Clip(path, event.MaxText)
}

func withoutQuery(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	raw, _, _ = strings.Cut(raw, "#")
	return raw
}

// split returns the host of a URL without query and fragment, and its path; of
// what is no URL with a host, no host and the whole text.
func split(raw string) (host, path string) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if (scheme == "https" || scheme == "http") && ok {
		host, path = rest, "/"
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			host, path = rest[:i], rest[i:]
		}
		if simple(host, false) && simple(path, true) {
			return host, path
		}
	} else if len(raw) > 1 && raw[0] == '/' && raw[1] != '/' {
		return "", raw // has no host, whatever else it is
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "", raw
	}
	if u.Path == "" {
		return u.Host, "/"
	}
	return u.Host, u.Path
}

// simple reports whether a host or a path has nothing that net/url would
// decode, part off or refuse.
func simple(s string, path bool) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || path && (c == '/' || c == ':' || c == ',' || c == '~' || c == '+' || c == '@' || c == '=') {
			continue
		}
		return false
	}
	return len(s) > 0
}

// Clip cuts a text to at most n bytes of valid UTF-8, and never through a
// character.
func Clip(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	if utf8.ValidString(s) { // several times as fast as what mends
		return s
	}
	return strings.ToValidUTF8(s, "�")
}

// vitals are the names of web vitals in lower case, as most protocols spell
// them.
var vitals = map[string]string{"lcp": "LCP", "inp": "INP", "cls": "CLS", "fcp": "FCP", "ttfb": "TTFB", "fid": "FID"}

// Vital returns the event of a web vital, or false for a name that is none.
// The value is in ms, and for CLS without unit.
func Vital(name string, value float64, at int64, attrs ...event.Attr) (event.One, bool) {
	full, ok := vitals[strings.ToLower(name)]
	if !ok {
		return event.One{}, false
	}
	e := event.One{Kind: event.Vital, Name: full, Value: value, HasVal: true, Time: at, Attrs: attrs}
	if full != "CLS" {
		e.Unit = "ms"
	}
	return e, true
}

// RequestEvent returns the event of a request of the client: method and path
// are its name. It failed where it got no answer (failed is true) or a status
// of the 5xx.
func (r *Request) RequestEvent(method, rawURL string, status int, failed bool, ms float64, at int64) event.One {
	if method == "" {
		method = "GET"
	}
	raw := withoutQuery(rawURL)
	host, path := split(raw)
	m := r.memory()
	from := m.Begin()
	if status > 0 {
		from = m.Add(from, event.Attr{Key: "status", Num: true, Number: float64(status)})
	}
	if host != "" {
		from = m.Add(from, TextAttr("host", host))
	}
	if failed || status >= 500 {
		from = m.Add(from, TextAttr("failed", "true"))
	}
	return event.One{Kind: event.Request, Attrs: m.Keep(from, 0), Name: r.Join(strings.ToUpper(method), " ", Clip(path, event.MaxText)), Time: at, Unit: "ms", Value: ms, HasVal: true}
}

// Handled is the attribute that says whether the app caught an error.
func Handled(yes bool) event.Attr { return TextAttr("handled", strconv.FormatBool(yes)) }
