package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

var compare = cmp.Options{cmp.AllowUnexported(subnetEnv{}), cmpopts.EquateComparable(netip.Prefix{})}

const six = "FLANNEL_IPV6_NETWORK=fd01::/48\nFLANNEL_IPV6_SUBNET=fd01:0:0:11::1/64\n"

// What is read, however it is written.
func TestSubnetEnv(t *testing.T) {
	plain := subnetEnv{networks: prefixes("10.1.0.0/16"), subnets: prefixes("10.1.17.0/24"), mtu: 1472, ipMasq: true}
	with := func(change func(*subnetEnv)) subnetEnv {
		e := plain
		change(&e)
		return e
	}
	const text = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"
	for name, tt := range map[string]struct {
		text string
		want subnetEnv
	}{
		"as flanneld writes it":       {text, plain},
		"no last newline":             {strings.TrimSpace(text), plain},
		"CRLF":                        {strings.ReplaceAll(text, "\n", "\r\n"), plain},
		"blank lines and comments":    {"\n# FLANNEL_MTU=1\n  # x\n\n" + strings.ReplaceAll(text, "\n", "\n\n\t\n#\n"), plain},
		"export":                      {"export " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  export\t"), plain},
		"double quotes":               {strings.ReplaceAll(strings.ReplaceAll(text, "=", `="`), "\n", "\"\n"), plain},
		"single quotes and spaces":    {strings.ReplaceAll(strings.ReplaceAll(text, "=", ` = ' `), "\n", " ' \n"), plain},
		"comments behind values":      {strings.ReplaceAll(text, "\n", " # so\n"), plain},
		"comments behind quotes":      {strings.ReplaceAll(strings.ReplaceAll(text, "=", `="`), "\n", "\" #so\n"), plain},
		"a byte order mark":           {"\ufeff" + text, plain},
		"other keys, and none":        {text + "FLANNEL_NET=7\nPATH=/bin\n=x\nFLANNEL_MTUX\n===\nexport\n", plain},
		"the last of a key counts":    {"FLANNEL_MTU=x\nFLANNEL_IPMASQ=0\n" + text, plain},
		"several networks, each once": {text + "FLANNEL_NETWORK=10.2.0.0/16, 10.1.0.0/16,,10.2.5.5/16,10.1.0.0/16,\n", with(func(e *subnetEnv) { e.networks = prefixes("10.2.0.0/16", "10.1.0.0/16") })},
		"both families": {six + text, with(func(e *subnetEnv) {
			e.networks = prefixes("10.1.0.0/16", "fd01::/48")
			e.subnets = prefixes("10.1.17.0/24", "fd01:0:0:11::/64")
		})},
		"IPv6 only": {six + "FLANNEL_MTU=1280\nFLANNEL_IPMASQ=false\n", subnetEnv{networks: prefixes("fd01::/48"), subnets: prefixes("fd01:0:0:11::/64"), mtu: 1280}},
		"IPv6 networks": {six + text + "FLANNEL_IPV6_NETWORK=fd02::/48,fd01::/48,fd02::1/48\n", with(func(e *subnetEnv) {
			e.networks = prefixes("10.1.0.0/16", "fd02::/48", "fd01::/48")
			e.subnets = prefixes("10.1.17.0/24", "fd01:0:0:11::/64")
		})},
		"IPv6 without values": {text + "FLANNEL_IPV6_NETWORK=\nFLANNEL_IPV6_SUBNET=''\n", plain},
		"the least MTU":       {text + "FLANNEL_MTU=68\n", with(func(e *subnetEnv) { e.mtu = 68 })},
		"the largest MTU":     {text + "FLANNEL_MTU=65535\n", with(func(e *subnetEnv) { e.mtu = 65535 })},
	} {
		got, err := parseSubnetEnv([]byte(tt.text), "/x", "linux")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(tt.want, got, compare); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for value, want := range map[string]bool{"true": true, "TRUE": true, "1": true, "Yes": true, "false": false, "False": false, "0": false, "NO": false} {
		if got, err := parseSubnetEnv([]byte(text+"FLANNEL_IPMASQ="+value), "/x", "linux"); err != nil || got.ipMasq != want {
			t.Errorf("FLANNEL_IPMASQ=%s: %v, %v", value, got.ipMasq, err)
		}
	}
}

// codeOf is the CNI code of an error.
func codeOf(err error) uint {
	var coded interface{ Code() uint }
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return 0
}

// What is missing is named, and comes again (11); what is wrong is named with
// its line (7).
func TestSubnetEnvProblems(t *testing.T) {
	for _, tt := range []struct {
		text string
		goos string
		code uint
		says []string
	}{
		{"", "linux", 11, []string{"flanneld has not written FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ to /x/subnet.env yet: look at the flannel pod's log on this node"}},
		{"FLANNEL_MTU", "linux", 11, []string{"FLANNEL_MTU"}},
		{env4text("FLANNEL_MTU"), "linux", 11, []string{"written FLANNEL_MTU to"}},
		{env4text("FLANNEL_IPMASQ"), "linux", 11, []string{"written FLANNEL_IPMASQ to"}},
		{env4text("FLANNEL_SUBNET"), "linux", 11, []string{"written FLANNEL_SUBNET to"}},
		{env4text("FLANNEL_NETWORK"), "linux", 11, []string{"written FLANNEL_NETWORK to"}},
		{env4text("") + "FLANNEL_IPMASQ=\n", "linux", 11, []string{"written FLANNEL_IPMASQ to"}},
		{env4text("") + "FLANNEL_NETWORK=, ,\n", windows, 11, []string{"written FLANNEL_NETWORK to"}},
		{env4text("") + "FLANNEL_IPV6_NETWORK=fd01::/48\n", "linux", 11, []string{"written FLANNEL_IPV6_SUBNET to"}},
		{six + "FLANNEL_MTU=1400\nFLANNEL_IPMASQ=1\nFLANNEL_SUBNET=10.1.17.1/24\n", "linux", 11, []string{"written FLANNEL_NETWORK to"}},
		{six + "FLANNEL_MTU=1400\nFLANNEL_IPMASQ=1\n", windows, 11, []string{"written FLANNEL_NETWORK, FLANNEL_SUBNET to"}},

		{env4text("") + "FLANNEL_MTU=x\n", "linux", 7, []string{`/x/subnet.env line 5: FLANNEL_MTU: "x" is not a whole number from 68 to 65535`}},
		{env4text("") + "FLANNEL_MTU=67\n", "linux", 7, []string{`"67" is not`}},
		{env4text("") + "FLANNEL_MTU=65536\n", "linux", 7, []string{`"65536" is not`}},
		{env4text("") + "FLANNEL_MTU=-1\n", "linux", 7, []string{`"-1" is not`}},
		{env4text("") + "FLANNEL_MTU=99999999999999999999\n", "linux", 7, []string{"is not a whole number"}},
		{env4text("") + "\nFLANNEL_IPMASQ=on\n", "linux", 7, []string{`line 6: FLANNEL_IPMASQ: "on" is not true, 1, yes, false, 0 or no`}},
		{env4text("") + "FLANNEL_IPMASQ='true\n", "linux", 7, []string{"FLANNEL_IPMASQ"}},
		{env4text("") + "FLANNEL_SUBNET=10.1.17.1\n", "linux", 7, []string{`FLANNEL_SUBNET: "10.1.17.1" is not an IPv4 subnet`}},
		{env4text("") + "FLANNEL_SUBNET=10.1.17.1/33\n", "linux", 7, []string{`is not an IPv4 subnet`}},
		{env4text("") + "FLANNEL_SUBNET=10.1.17.1/24,10.1.18.1/24\n", "linux", 7, []string{`is not an IPv4 subnet`}},
		{env4text("") + "FLANNEL_SUBNET=fd01::1/64\n", "linux", 7, []string{`is not an IPv4 subnet`}},
		{env4text("") + "FLANNEL_NETWORK=10.1.0.0/16,::ffff:10.2.0.0/112\n", "linux", 7, []string{`"::ffff:10.2.0.0/112" is not an IPv4 subnet`}},
		{env4text("") + "FLANNEL_IPV6_NETWORK=10.0.0.0/8\nFLANNEL_IPV6_SUBNET=fe80::1%eth0/64\n", "linux", 7,
			[]string{`line 5: FLANNEL_IPV6_NETWORK: "10.0.0.0/8" is not an IPv6 subnet (and 1 more)`, `line 6: FLANNEL_IPV6_SUBNET: "fe80::1%eth0/64" is not an IPv6 subnet`}},
		{"FLANNEL_MTU=x\n", "linux", 7, []string{`line 1: FLANNEL_MTU: "x"`, "has not written FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_IPMASQ to"}},
	} {
		_, err := parseSubnetEnv([]byte(tt.text), "/x/subnet.env", tt.goos)
		if err == nil || codeOf(err) != tt.code {
			t.Errorf("%q: %v (code %d), want code %d", tt.text, err, codeOf(err), tt.code)
			continue
		}
		for _, says := range tt.says {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%q: %q does not say %q", tt.text, err, says)
			}
		}
	}
}

// env4text is a whole subnet.env without one key.
func env4text(without string) string {
	var text strings.Builder
	for _, line := range []string{"FLANNEL_NETWORK=10.1.0.0/16\n", "FLANNEL_SUBNET=10.1.17.1/24\n", "FLANNEL_MTU=1472\n", "FLANNEL_IPMASQ=true\n"} {
		if key, _, _ := strings.Cut(line, "="); key != without {
			text.WriteString(line)
		}
	}
	return text.String()
}

// Whatever stands in the file, it is read into values that hold, or refused in
// words.
func FuzzSubnetEnv(f *testing.F) {
	for _, text := range []string{env4text(""), six + env4text(""), env4text("FLANNEL_MTU") + "FLANNEL_MTU", "export FLANNEL_MTU='1472' # x\r\n", "FLANNEL_IPMASQ=\"", "=\n#", env4text("") + "FLANNEL_NETWORK=,"} {
		f.Add([]byte(text), false)
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, onWindows bool) {
		goos := "linux"
		if onWindows {
			goos = windows
		}
		env, err := parseSubnetEnv(text, "/x", goos)
		if err != nil {
			if c := codeOf(err); err.Error() == "" || c != 7 && c != 11 {
				t.Fatalf("code %d: %q", c, err)
			}
			return
		}
		if len(env.networks) == 0 || len(env.subnets) == 0 || len(env.subnets) > 2 || env.mtu < 68 || env.mtu > 65535 {
			t.Fatalf("%+v", env)
		}
		for _, p := range append(env.networks, env.subnets...) {
			if p != p.Masked() {
				t.Fatalf("host bits in %v", p)
			}
		}
	})
}
