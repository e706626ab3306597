package beacon

import (
	"bytes"
	"fmt"

	"serin.dev/serin/internal/event"
)

// The keys of the envelope, as bits of what has been seen.
const (
	keyV = 1 << iota
	keyApp
	keyRelease
	keySession
	keySeq
	keySent
	keySDK
	keyTenancy
	keyUser
	keyArms
	keyCtx
	keyEvents
	keyDrops
)

// required are the keys of the envelope that must be there.
var required = []struct {
	bit       uint
	key, want string
}{
	{keyV, "v", versionSpan.String()},
	{keyApp, "app", nameLength.String()},
	{keyRelease, "release", nameLength.String()},
	{keySession, "session", wantSession},
	{keySeq, "seq", seqSpan.String()},
	{keySent, "sent", timeSpan.String()},
}

var (
	wantSession   = fmt.Sprintf("%d to %d characters of A-Z, a-z, 0-9, '-' and '_'", event.MinSession, event.MaxSession)
	sessionLength = length{event.MinSession, event.MaxSession}
	userLength    = length{0, event.MaxSession}
)

func (d *Decoder) envelope(b *event.Beacon) {
	if !d.object("body") {
		return
	}
	s := &d.s
	var seen uint
	for key, ok := s.member(true); ok; key, ok = s.member(false) {
		switch string(key) {
		case "v":
			if d.once(&seen, keyV, "", "v") {
				d.integer("v", versionSpan)
			}
		case "sdk":
			if d.once(&seen, keySDK, "", "sdk") {
				b.SDK = d.name("sdk", sdkLength)
			}
		case "app":
			if d.once(&seen, keyApp, "", "app") {
				b.App = d.name("app", nameLength)
			}
		case "release":
			if d.once(&seen, keyRelease, "", "release") {
				b.Release = event.Release(d.name("release", nameLength))
			}
		case "tenancy":
			if d.once(&seen, keyTenancy, "", "tenancy") {
				b.Tenancy = d.tenancy()
			}
		case "session":
			if d.once(&seen, keySession, "", "session") {
				b.Session = d.session()
			}
		case "user":
			if d.once(&seen, keyUser, "", "user") {
				b.User = d.own("user", userLength)
			}
		case "seq":
			if d.once(&seen, keySeq, "", "seq") {
				b.Seq = uint32(d.integer("seq", seqSpan))
			}
		case "sent":
			if d.once(&seen, keySent, "", "sent") {
				b.Sent = d.integer("sent", timeSpan)
			}
		case "arms":
			if d.once(&seen, keyArms, "", "arms") {
				d.arms(b)
			}
		case "ctx":
			if d.once(&seen, keyCtx, "", "ctx") {
				d.context(&b.Ctx)
			}
		case "events":
			if d.once(&seen, keyEvents, "", "events") {
				d.events(b)
			}
		case "drops":
			if d.once(&seen, keyDrops, "", "drops") {
				d.drops(b)
			}
		default:
			s.skip()
		}
	}
	for i := range required {
		if r := &required[i]; seen&r.bit == 0 {
			d.fail(event.ReasonMissing, r.key, nil, r.want)
		}
	}
}

func (d *Decoder) tenancy() event.Tenancy {
	const want = "production, test, shadow or synthetic"
	if d.s.peek() != '"' {
		d.wrongType("tenancy", want)
		return event.Production
	}
	name := d.name("tenancy", sdkLength)
	t, err := event.ParseTenancy(name)
	if err != nil || name == "" { // a variable that is not set must not make production of a test
		d.fail(event.ReasonName, "tenancy", []byte(name), want)
	}
	return t
}

func (d *Decoder) session() string {
	if d.s.peek() != '"' {
		d.wrongType("session", wantSession)
		return ""
	}
	raw, _ := d.raw("session", sessionLength)
	if len(raw) < event.MinSession || len(raw) > event.MaxSession {
		d.fail(event.ReasonLength, "session", raw, wantSession)
		return ""
	}
	for _, c := range raw {
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			d.fail(event.ReasonType, "session", raw, wantSession)
			return ""
		}
	}
	return d.m.Own(raw)
}

func (d *Decoder) arms(b *event.Beacon) {
	if !d.object("arms") {
		return
	}
	for key, ok := d.s.member(true); ok; key, ok = d.s.member(false) {
		if len(b.Arms) == event.MaxArms {
			d.fail(event.ReasonCount, "arms", key, fmt.Sprintf("at most %d arms", event.MaxArms))
			return
		}
		if !d.fits("arms", key, nameLength) {
			return
		}
		change := d.m.Known(key)
		d.sub = change
		for i := range b.Arms {
			if b.Arms[i].Change == change {
				d.twice("arms")
				return
			}
		}
		b.Arms = append(b.Arms, event.Arm{Change: change, Variant: d.name("arms", nameLength)})
		d.sub = ""
	}
}

// The keys of the context, as bits of what has been seen.
const (
	keyPlatform = 1 << iota
	keyOS
	keyBrowser
	keyDevice
	keyNetwork
	keyPage
	keyEnv
)

func (d *Decoder) context(c *event.Context) {
	if !d.object("ctx") {
		return
	}
	var seen uint
	for key, ok := d.s.member(true); ok; key, ok = d.s.member(false) {
		switch string(key) {
		case "platform":
			if d.once(&seen, keyPlatform, "ctx.", "platform") {
				c.Platform = d.name("ctx.platform", textLength)
			}
		case "os":
			if d.once(&seen, keyOS, "ctx.", "os") {
				c.OS = d.name("ctx.os", textLength)
			}
		case "browser":
			if d.once(&seen, keyBrowser, "ctx.", "browser") {
				c.Browser = d.name("ctx.browser", textLength)
			}
		case "device":
			if d.once(&seen, keyDevice, "ctx.", "device") {
				c.Device = d.name("ctx.device", textLength)
			}
		case "network":
			if d.once(&seen, keyNetwork, "ctx.", "network") {
				c.Network = d.name("ctx.network", textLength)
			}
		case "page":
			if d.once(&seen, keyPage, "ctx.", "page") {
				c.Page = d.page()
			}
		case "env":
			if d.once(&seen, keyEnv, "ctx.", "env") {
				c.Env = d.name("ctx.env", sdkLength)
			}
		default: // country too: only the edge knows where a client is
			d.s.skip()
		}
	}
}

// page cuts query and fragment, where names, addresses and tokens stand. An SDK
// does so already; this is for those that do not.
func (d *Decoder) page() string {
	const field = "ctx.page"
	raw, ok := d.raw(field, textLength)
	if !ok {
		return ""
	}
	if i := bytes.IndexAny(raw, "?#"); i >= 0 {
		raw = raw[:i]
	}
	if !d.fits(field, raw, textLength) {
		return ""
	}
	return d.m.Known(raw)
}

func (d *Decoder) drops(b *event.Beacon) {
	if !d.object("drops") {
		return
	}
	for key, ok := d.s.member(true); ok; key, ok = d.s.member(false) {
		if len(b.Drops) == event.MaxDrops {
			d.fail(event.ReasonCount, "drops", key, fmt.Sprintf("at most %d causes", event.MaxDrops))
			return
		}
		if !d.fits("drops", key, nameLength) {
			return
		}
		cause := d.m.Known(key)
		d.sub = cause
		for i := range b.Drops {
			if b.Drops[i].Cause == cause {
				d.twice("drops")
				return
			}
		}
		b.Drops = append(b.Drops, event.Dropped{Cause: cause, Count: d.integer("drops", countSpan)})
		d.sub = ""
	}
}
