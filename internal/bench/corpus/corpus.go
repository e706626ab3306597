// Package corpus makes the traffic that the edge is measured with: sessions of
// several apps, releases, devices and pages, from a fixed seed, and their
// beacons as bodies of the native format and of the protocols that others
// speak. The bodies of all formats carry the same observations, so that what
// they cost can be compared.
package corpus

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Options say what a corpus is made of.
type Options struct {
	Seed     uint64
	Sessions int   // how many different sessions; 1 or more
	Events   int   // of each beacon; 1 to 200
	Now      int64 // Unix ms, the time of the newest beacon
}

// Session is one visit: its beacons in their order, the first with the
// exposure and the start.
type Session struct {
	Arm     string // canary or baseline
	Beacons []Beacon
}

// Beacon is what a client sends at once.
type Beacon struct {
	App, Release, User, Change, Arm string
	Seq                             int
	Sent                            int64 // Unix ms
	Device                          Device
	Page                            string
	Events                          []Event
}

// Device is what a session runs on.
type Device struct {
	Platform, OS, Browser, Class, Network, Agent string

	share, slow float64 // of all sessions; factor on durations
}

// Event is one observation. Kind is of the native format.
type Event struct {
	Kind, Name string
	At         int64 // Unix ms
	Value      float64
	HasValue   bool
	Method     string // of a request
	Status     int    // of a request; 0: no answer came
	Message    string
	Frames     []Frame
	Handled    bool
	Rating     string // of a vital
}

// Frame is one line of a stack.
type Frame struct {
	Function, File string
	Line, Column   int
}

// app is a client program with the releases that are out at once, the last of
// them as canary.
type app struct {
	name     string
	share    float64
	releases []string
	pages    []string
	calls    []string
}

var apps = []app{
	{"shop-web", 0.46, []string{"2.3.9", "2.4.0", "2.4.1"},
		[]string{"/", "/search", "/category/shoes", "/category/coats", "/category/home", "/product/:id", "/product/:id/reviews", "/cart", "/checkout", "/checkout/address", "/checkout/pay", "/order/:id", "/account", "/account/orders", "/help"},
		[]string{"/api/session", "/api/search", "/api/products/:id", "/api/products/:id/stock", "/api/cart", "/api/cart/items", "/api/pay", "/api/address/lookup", "/api/recommend", "/graphql"}},
	{"news-web", 0.27, []string{"118.2", "118.3", "119.0"},
		[]string{"/", "/politics", "/economy", "/sport", "/culture", "/article/:id", "/article/:id/comments", "/live/:id", "/video/:id", "/login"},
		[]string{"/api/feed", "/api/article/:id", "/api/comments/:id", "/api/ads", "/api/login", "/api/live/:id"}},
	{"bank-web", 0.14, []string{"7.11.0", "7.12.0"},
		[]string{"/login", "/overview", "/accounts/:id", "/transfer", "/transfer/confirm", "/cards", "/cards/:id/limits", "/messages"},
		[]string{"/api/auth", "/api/accounts", "/api/accounts/:id/bookings", "/api/transfers", "/api/cards", "/api/messages"}},
	{"maps-web", 0.13, []string{"2026.45", "2026.46", "2026.47"},
		[]string{"/", "/place/:id", "/route", "/route/:id", "/saved"},
		[]string{"/tiles/:z/:x/:y", "/api/geocode", "/api/route", "/api/place/:id", "/api/traffic"}},
}

var devices = []Device{
	{"web", "Android 15", "Chrome 142", "mobile", "4g", "Mozilla/5.0 (Linux; Android 15; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36", 0.24, 1.3},
	{"web", "Android 14", "Chrome 141", "mobile", "4g", "Mozilla/5.0 (Linux; Android 14; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36", 0.11, 1.5},
	{"web", "Android 13", "Samsung Internet 28", "mobile", "3g", "Mozilla/5.0 (Linux; Android 13; SM-A536B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36", 0.06, 2.2},
	{"web", "iOS 26", "Safari 26", "mobile", "wifi", "Mozilla/5.0 (iPhone; CPU iPhone OS 26_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1", 0.18, 0.9},
	{"web", "iOS 18", "Safari 18", "mobile", "4g", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1", 0.07, 1.1},
	{"web", "iPadOS 26", "Safari 26", "tablet", "wifi", "Mozilla/5.0 (iPad; CPU OS 26_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/604.1", 0.05, 0.9},
	{"web", "Windows 11", "Chrome 142", "desktop", "ethernet", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", 0.14, 0.7},
	{"web", "Windows 11", "Edge 142", "desktop", "wifi", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0", 0.06, 0.8},
	{"web", "macOS 26", "Safari 26", "desktop", "wifi", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15", 0.05, 0.6},
	{"web", "Linux", "Firefox 145", "desktop", "ethernet", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", 0.04, 0.7},
}

var failures = []struct{ name, message string }{
	{"TypeError", "Cannot read properties of undefined (reading 'total')"},
	{"TypeError", "undefined is not an object (evaluating 'cart.items.length')"},
	{"ReferenceError", "gtag is not defined"},
	{"RangeError", "Maximum call stack size exceeded"},
	{"SyntaxError", "Unexpected token '<', \"<!DOCTYPE \"... is not valid JSON"},
	{"ChunkLoadError", "Loading chunk 317 failed."},
	{"AbortError", "The user aborted a request."},
	{"SecurityError", "Failed to read the 'localStorage' property from 'Window'"},
}

var functions = []string{"render", "update", "onClick", "dispatch", "flush", "reconcile", "commit", "fetchCart", "applyCoupon", "useEffect", "runTask", "next", "then", "emit", "hydrate", "format"}

var resources = []string{"/assets/app.js", "/assets/vendor.js", "/assets/checkout.js", "/assets/main.css", "/img/hero.avif", "/img/logo.svg", "/fonts/inter.woff2", "/img/product.avif", "/assets/search.js", "/sw.js"}

// The shares of events that are errors and crashes. Crashes are told by
// the next launch of an app and are rare.
const (
	errorShare = 0.015
	crashShare = 0.0005
)

// Make returns the sessions of a corpus, the same for the same options.
func Make(o Options) []Session {
	if o.Sessions < 1 || o.Events < 1 || o.Events > 200 {
		panic(fmt.Sprintf("BUG: a corpus of %d sessions with beacons of %d events", o.Sessions, o.Events))
	}
	out := make([]Session, o.Sessions)
	for i := range out {
		m := maker{o: o, rng: rand.New(rand.NewPCG(o.Seed, uint64(i)))}
		out[i] = m.session()
	}
	return out
}

type maker struct {
	o   Options
	rng *rand.Rand
	app app
	b   Beacon
	at  int64
}

func (m *maker) session() Session {
	u := m.rng.Float64()
	m.app = apps[len(apps)-1]
	for _, a := range apps {
		if u < a.share {
			m.app = a
			break
		}
		u -= a.share
	}
	d := devices[0]
	u = m.rng.Float64()
	for _, one := range devices {
		if u < one.share {
			d = one
			break
		}
		u -= one.share
	}
	// Visits are mostly short: 1 to 12 beacons, about 4.5 in the mean.
	n := min(1+int(m.rng.ExpFloat64()*4), 12)
	m.at = m.o.Now - int64(n+1)*20_000
	last := len(m.app.releases) - 1
	m.b = Beacon{App: m.app.name, User: fmt.Sprintf("h:%012x", m.rng.Uint64N(1<<34)), Change: "release/" + m.app.releases[last], Device: d}
	switch u := m.rng.Float64(); {
	case u < 0.1:
		m.b.Arm, m.b.Release = "canary", m.app.releases[last]
	case u < 0.9 || last < 2:
		m.b.Arm, m.b.Release = "baseline", m.app.releases[last-1]
	default: // a page that has been open for long
		m.b.Arm, m.b.Release = "baseline", m.app.releases[last-2]
	}
	s := Session{Arm: m.b.Arm}
	for i := range n {
		m.b.Seq = i
		m.b.Page = m.app.pages[m.zipf(len(m.app.pages))]
		m.b.Events = make([]Event, 0, m.o.Events)
		m.events(i == 0, i == n-1)
		m.b.Sent = m.at + 40
		s.Beacons = append(s.Beacons, m.b)
		m.at += 5000 + int64(m.rng.ExpFloat64()*15000)
		m.at = min(m.at, m.o.Now-100)
	}
	return s
}

// zipf picks one of n, the first most often.
func (m *maker) zipf(n int) int {
	return min(int(float64(n)*math.Pow(m.rng.Float64(), 2.2)), n-1)
}

// ms is a log-normal duration with a median, in microseconds' precision.
func (m *maker) ms(median, sigma float64) float64 {
	return math.Round(10*median*m.b.Device.slow*math.Exp(sigma*m.rng.NormFloat64())) / 10
}

func (m *maker) add(e Event) {
	if len(m.b.Events) < m.o.Events {
		e.At = m.at
		m.at += 1 + int64(m.rng.ExpFloat64()*150)
		m.b.Events = append(m.b.Events, e)
	}
}

func (m *maker) vital(name string, v, good, poor float64) {
	rating := "good"
	switch {
	case v > poor:
		rating = "poor"
	case v > good:
		rating = "needs-improvement"
	}
	m.add(Event{Kind: "vital", Name: name, Value: v, HasValue: true, Rating: rating})
}

// events fills a beacon: what belongs to its place in the session first, and
// then what happens all the time.
func (m *maker) events(first, last bool) {
	if first {
		m.add(Event{Kind: "exposure", Name: m.b.Change})
		m.add(Event{Kind: "session", Name: "start"})
		m.add(Event{Kind: "view", Name: m.b.Page})
		ttfb := m.ms(210, 0.6)
		fcp := ttfb + m.ms(600, 0.5)
		m.vital("TTFB", ttfb, 800, 1800)
		m.vital("FCP", round1(fcp), 1800, 3000)
		m.vital("LCP", round1(fcp+m.ms(450, 0.8)), 2500, 4000)
	} else if m.rng.Float64() < 0.5 {
		m.add(Event{Kind: "view", Name: m.b.Page})
	}
	ends := 0
	if last {
		ends = 3
	}
	for len(m.b.Events) < m.o.Events-ends {
		m.ordinary()
	}
	if last {
		m.vital("INP", m.ms(85, 0.7), 200, 500)
		m.vital("CLS", math.Round(1e4*0.03*math.Exp(1.1*m.rng.NormFloat64()))/1e4, 0.1, 0.25)
		m.add(Event{Kind: "session", Name: "end"})
	}
}

func round1(v float64) float64 { return math.Round(v*10) / 10 }

func (m *maker) ordinary() {
	switch u := m.rng.Float64(); {
	case u < crashShare:
		m.add(Event{Kind: "crash", Name: "OutOfMemory", Message: "the page's process ended: out of memory"})
	case u < crashShare+errorShare:
		f := failures[m.zipf(len(failures))]
		e := Event{Kind: "error", Name: f.name, Message: f.message, Handled: m.rng.Float64() < 0.3}
		for range 4 + m.rng.IntN(14) {
			e.Frames = append(e.Frames, Frame{functions[m.rng.IntN(len(functions))], "https://cdn." + m.app.name + ".example" + resources[m.rng.IntN(3)], 1 + m.rng.IntN(3), 1 + m.rng.IntN(90000)})
		}
		m.add(e)
	case u < 0.47:
		call := m.app.calls[m.zipf(len(m.app.calls))]
		e := Event{Kind: "request", Method: "GET", Status: 200, Value: m.ms(110, 0.9), HasValue: true}
		if m.rng.Float64() < 0.25 {
			e.Method = "POST"
		}
		switch u := m.rng.Float64(); {
		case u < 0.008:
			e.Status = 503
		case u < 0.03:
			e.Status = 404
		case u < 0.05:
			e.Status = 304
		}
		e.Name = call
		m.add(e)
	case u < 0.77:
		m.add(Event{Kind: "resource", Name: resources[m.zipf(len(resources))], Value: m.ms(45, 1), HasValue: true})
	case u < 0.85:
		m.add(Event{Kind: "longtask", Name: "longtask", Value: 50 + m.ms(40, 0.8), HasValue: true})
	case u < 0.93:
		m.vital("INP", m.ms(85, 0.7), 200, 500)
	default:
		m.add(Event{Kind: "metric", Name: "order_value", Value: math.Round(4200*math.Exp(0.7*m.rng.NormFloat64())) / 100, HasValue: true})
	}
}
