package admit

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// The marks that stand for what was taken out.
const (
	markEmail = "[email]"
	markToken = "[token]"
	markCard  = "[card]"
	markIP    = "[ip]"
	markQuery = "[query]"
)

// suspicion says which rules may apply to a text; one pass over the bytes
// finds it, so that texts without any pay for no expression.
type suspicion = tenant.ScrubRules

const (
	query  = tenant.ScrubQuery
	email  = tenant.ScrubEmail
	jwt    = tenant.ScrubJWT
	bearer = tenant.ScrubBearer
	secret = tenant.ScrubSecret
	card   = tenant.ScrubCard
	ip     = tenant.ScrubIP
)

// rules are what is taken out of messages, stacks, names and attributes, in
// this order. They err on the side of taking out.
var rules = []struct {
	on   suspicion
	re   *regexp.Regexp
	mark string
	by   func(match string) string // what stands in the place of a match, where it is not the mark alone
}{
	// What follows a path's question mark, up to a space, a quote or a line's
	// position such as ":1:2)".
	{query, regexp.MustCompile(`(https?://[^\s"'<>?]*|/[^\s"'<>?]*)\?[^\s"'<>]*?(:\d+:\d+\)?|["'\s<>)]|$)`), "${1}?" + markQuery + "${2}", nil},
	{secret, regexp.MustCompile(`://[^\s/:@"'<>]*:[^\s/"'<>]+@`), "://" + markToken + "@", nil}, // before a host
	// In a URL's path the sign is mostly escaped, once or twice.
	{email, regexp.MustCompile(`[\pL\pN._%+-]+(?:@|%(?:25)?40)[\pL\pN-]+(\.[\pL\pN-]+)+`), markEmail, nil},
	{jwt, regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*`), markToken, nil}, // JSON web tokens
	{bearer, regexp.MustCompile(`(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}`), markToken, nil},
	{secret, regexp.MustCompile(`(?i)\b(authorization)\b\\?["']?\s*[=:]\s*\\?["']?(?:basic|digest|negotiate|apikey|token)\s+[^\s"'\\&,;]{3,}`), "${1}=" + markToken, nil},
	// The value ends where its quote does, which is escaped in JSON within JSON.
	{secret, regexp.MustCompile(`(?i)\b([\w-]*(?:password|passwd|secret|token|api[_-]?key|authorization))\b\\?["']?\s*[=:]\s*(?:\\?"[^"\\\n]{3,}|\\?'[^'\\\n]{3,}|\\?["']?[^\s"'\\&,;]{3,})`),
		"${1}=" + markToken, nil},
	{card, regexp.MustCompile(`\b\d(?:[ -]?\d){12,}\b`), "", cards},
	{ip, regexp.MustCompile(`\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b`), markIP, nil},
	{ip, regexp.MustCompile(`\b[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7}\b`), "", version6},
}

// version6 takes out s where it is an IPv6 address, and no name of a namespace such as
// face::cafe, which has no digit.
func version6(s string) string {
	if _, err := netip.ParseAddr(s); err == nil && strings.ContainsAny(s, "0123456789") {
		return markIP
	}
	return s
}

// The last letters of the words whose values are secret: in a text, where the rules then
// look closer, and of an attribute's key.
var (
	secretEnds    = []string{"password", "passwd", "secret", "token", "key", "authorization"}
	secretKeyEnds = []string{"password", "passwd", "secret", "token", "apikey", "api_key", "api-key", "authorization"}
)

// endsIn reports whether word ends in one of several, in letters of either case.
func endsIn(word string, ends []string) bool {
	for _, end := range ends {
		if n := len(word) - len(end); n >= 0 && strings.EqualFold(word[n:], end) {
			return true
		}
	}
	return false
}

// secretKey reports whether the value of an attribute is secret by its key.
func secretKey(key string) bool {
	if key == "" || strings.IndexByte("dDtTnNyY", key[len(key)-1]) < 0 {
		return false // as nearly all of them: none of the words ends so
	}
	return endsIn(key, secretKeyEnds)
}

// telling has the bytes that say anything of what a text may hold. Digits, which
// make runs, and what may stand in one are among them.
var telling = func() (t [256]bool) {
	for _, c := range []byte("0123456789. -?@%ebB=:") {
		t[c] = true
	}
	return t
}()

// suspect returns the rules that may apply to s; it never misses one.
func suspect(s string) (found suspicion) {
	digits, dots := 0, 0   // in the run that is read; dots between digits
	colon, colons := -6, 0 // the last one, farther than a group; how many with nothing but groups of an address between
	scheme := false        // there was one, of a URL
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !telling[c] {
			digits = 0
			continue
		}
		if c-'0' <= 9 {
			if digits++; digits >= 13 {
				found |= card
			}
			continue
		}
		switch c {
		case '.':
			if i > 0 && s[i-1]-'0' <= 9 && i+1 < len(s) && s[i+1]-'0' <= 9 {
				if dots++; dots >= 3 {
					found |= ip
				}
			}
		case ' ', '-': // may stand in a card's number
			continue
		case '?':
			found |= query
		case '@':
			found |= email
			if scheme {
				found |= secret
			}
		case '%':
			if rest := s[i+1:]; strings.HasPrefix(rest, "40") || strings.HasPrefix(rest, "2540") {
				found |= email
			}
		case 'e':
			if strings.HasPrefix(s[i:], "eyJ") {
				found |= jwt
			}
		case 'b', 'B':
			if len(s)-i > 6 && strings.EqualFold(s[i:i+6], "bearer") {
				found |= bearer
			}
		case '=', ':':
			if c == ':' {
				if i-colon > 5 || !group(s[colon+1:i]) {
					colons = 0
				}
				if colons++; colons == 7 || colons > 1 && colon == i-1 {
					found |= ip
				}
				colon = i
				scheme = scheme || strings.HasPrefix(s[i:], "://")
			}
			word := strings.TrimRight(s[:i], " \t\n\f\r\"'\\")
			if endsIn(word, secretEnds) {
				found |= secret
			}
		}
		digits = 0
	}
	return found
}

// group reports whether s may be a group of an IPv6 address, or lie where groups
// are left out.
func group(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// Scrub takes out of b what names a person or opens a door, wherever free text
// stands: what the tenant's choice of the built-in rules finds (query strings,
// email addresses, tokens, card numbers, network addresses), and then what its
// own patterns do. It returns how many texts it changed. m may be nil.
func Scrub(by *tenant.Scrub, m *Memo, b *event.Beacon) (changed int) {
	if by.Rules == 0 && len(by.Patterns) == 0 {
		return 0
	}
	one := func(s *string) {
		if *s == "" {
			return
		}
		e, clean := m.cleaned(*s, by)
		if clean {
			return
		}
		switch out := scrub(by, *s); {
		case out != *s:
			*s = out
			changed++
		case e != nil:
			*e = cleanEntry{*s, by}
		}
	}
	one(&b.Ctx.Page)
	for i := range b.Events {
		e := &b.Events[i]
		one(&e.Name)
		one(&e.Message)
		one(&e.Stack)
		was := changed
		for j := range e.Attrs {
			one(&e.Attrs[j].Key)
		}
		if changed > was { // keys that were two may be one now, of which the first holds
			seen := map[string]bool{}
			e.Attrs = slices.DeleteFunc(e.Attrs, func(a event.Attr) bool {
				twice := seen[a.Key]
				seen[a.Key] = true
				return twice
			})
		}
		for j := range e.Attrs {
			a := &e.Attrs[j]
			if by.Rules&secret != 0 && a.Text != "" && secretKey(a.Key) && a.Text != "true" && a.Text != "false" {
				a.Text = markToken // as if it stood behind its key in a text
				changed++
				continue
			}
			one(&a.Text)
		}
	}
	return changed
}

// disguise hashes a user in whose name there is anything to be scrubbed, as users of
// foreign protocols are hashed: what is counted are users, and one mark would make one
// of all.
func disguise(g *tenant.Grant, b *event.Beacon) {
	if b.User == "" || scrub(g.Scrub, b.User) == b.User {
		return
	}
	sum := sha256.Sum256([]byte(g.KeyID + "\x00" + b.User))
	b.User = "h:" + hex.EncodeToString(sum[:12])
}

func scrub(by *tenant.Scrub, s string) string {
	if found := suspect(s) & by.Rules; found != 0 {
		s = builtIn(found, s)
	}
	for i := range by.Patterns {
		if p := &by.Patterns[i]; s != "" && p.RE.MatchString(s) { // no copy where nothing matches
			s = p.RE.ReplaceAllLiteralString(s, p.Mark)
		}
	}
	return s
}

// builtIn applies the built-in rules that were found to be worth a try.
func builtIn(found suspicion, s string) string {
	for i := range rules {
		r := &rules[i]
		if found&r.on == 0 {
			continue
		}
		if r.by == nil {
			s = r.re.ReplaceAllString(s, r.mark)
			continue
		}
		s = r.re.ReplaceAllStringFunc(s, r.by)
	}
	return s
}

// The digits that a payment card's number has (ISO/IEC 7812-1).
const (
	leastCard = 13
	mostCard  = 19
)

// cards takes the numbers of cards out of a run of digits. Others may stand before
// and behind one, such as an amount or a check value: a number begins and ends with
// a group.
func cards(run string) string {
	const apart = " -"
	var out strings.Builder
	for rest := run; rest != ""; {
		end := 0
		if rest[0] >= '2' && rest[0] <= '6' {
			for i, digits := 0, 0; i < len(rest) && digits < mostCard; i++ {
				if strings.IndexByte(apart, rest[i]) >= 0 {
					continue
				}
				digits++
				if (i+1 == len(rest) || strings.IndexByte(apart, rest[i+1]) >= 0) && digits >= leastCard && luhn(rest[:i+1]) {
					end = i + 1
				}
			}
		}
		if end > 0 {
			out.WriteString(markCard)
		} else {
			end = strings.IndexAny(rest, apart)
			if end < 0 {
				end = len(rest)
			}
			out.WriteString(rest[:end])
		}
		if rest = rest[end:]; rest != "" {
			out.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	return out.String()
}

// luhn reports whether the digits of s end in the check digit of ISO/IEC
// 7812-1, as those of payment cards do; one in ten of other numbers does.
func luhn(s string) bool {
	sum, n := 0, 0
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] < '0' || s[i] > '9' {
			continue
		}
		d := int(s[i] - '0')
		if n%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
		n++
	}
	return n >= leastCard && sum%10 == 0
}
