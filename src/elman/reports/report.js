"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const samples = data.samples;
  const plots = [...document.querySelectorAll("svg.plot")];
  const byId = (id) => document.getElementById(id);
  const whole = (number) => number.toLocaleString("en-US");
  const nats = (value) => `${value.toFixed(3)} nats (${(value / Math.LN2).toFixed(3)} bits)`;
  // Control characters have no shape of their own; the terminal shows them as the same dot.
  const visible = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "·");
  let current = samples.length - 1;
  let timer = null;
  root.classList.add("js");

  // Both directions of a plot's horizontal axis, from the frame that is written on the picture itself.
  const frame = (plot) => {
    const left = Number(plot.dataset.left), right = Number(plot.dataset.right), last = Number(plot.dataset.last);
    const log = plot.dataset.scale === "log";
    const share = (i) => (log ? Math.log10(Math.max(1, i)) / Math.log10(Math.max(last, 2)) : i / last);
    return {
      place: (i) => left + (right - left) * Math.min(1, share(i)),
      iteration: (x) => {
        const part = Math.min(1, Math.max(0, (x - left) / (right - left)));
        return log ? Math.pow(Math.max(last, 2), part) : part * last;
      },
    };
  };
  const moveLine = (line, x) => {
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.style.visibility = "visible";
  };
  const nearest = (rows, iteration) => {
    let best = 0;
    rows.forEach((row, index) => {
      if (Math.abs(row[0] - iteration) < Math.abs(rows[best][0] - iteration)) best = index;
    });
    return best;
  };

  function show(index) {
    current = Math.min(samples.length - 1, Math.max(0, index));
    const sample = samples[current];
    const loss = sample.validation !== null ? ["validation", sample.validation]
      : sample.training !== null ? ["training", sample.training] : null;
    byId("text").textContent = visible(sample.text);
    byId("text").scrollTop = 0;
    byId("iteration").textContent = `update ${whole(sample.iteration)}`;
    byId("loss").textContent = loss ? `${loss[0]} ${nats(loss[1])}` : "";
    byId("elapsed").textContent = sample.after ? `after ${sample.after}` : "";
    byId("shortened").hidden = !sample.left_out;
    byId("shortened").textContent = sample.left_out ? `${whole(sample.left_out)} more characters are left out here.` : "";
    const slider = byId("slider");
    slider.value = current;
    slider.setAttribute("aria-valuetext", `update ${whole(sample.iteration)}${loss ? `, ${loss[0]} ${nats(loss[1])}` : ""}`);
    plots.forEach((plot) => moveLine(plot.querySelector(".marker"), frame(plot).place(sample.iteration)));
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    byId("play").textContent = "▶ Play";
  }

  function play() {
    if (timer !== null) return stop();
    if (current === samples.length - 1) show(0);
    byId("play").textContent = "❚❚ Pause";
    // A long timeline is not played slower than half a minute.
    timer = setInterval(() => {
      if (current === samples.length - 1) stop();
      else show(current + 1);
    }, Math.max(120, Math.min(1800, 30000 / samples.length)));
  }

  function readOut(plot, event) {
    const box = plot.getBoundingClientRect();
    const { place, iteration } = frame(plot);
    const at = iteration(((event.clientX - box.left) / box.width) * plot.viewBox.baseVal.width);
    const curve = data.curves[plot.dataset.scale];
    if (!curve.length) return at;
    const [update, loss] = curve[nearest(curve, at)];
    let text = `update ${whole(Math.round(update))} · training ${nats(loss)}`;
    if (data.validations.length) {
      const [when, value] = data.validations[nearest(data.validations, at)];
      text += ` · validation ${nats(value)} at ${whole(when)}`;
    }
    byId("readout").textContent = text;
    moveLine(plot.querySelector(".hover"), place(update));
    return at;
  }

  const lossPlots = plots.filter((plot) => plot.classList.contains("loss"));
  lossPlots.forEach((plot) => {
    plot.addEventListener("pointermove", (event) => readOut(plot, event));
    plot.addEventListener("pointerleave", () => { plot.querySelector(".hover").style.visibility = "hidden"; });
    plot.addEventListener("click", (event) => {
      const at = readOut(plot, event);
      if (samples.length) { stop(); show(nearest(samples.map((sample) => [sample.iteration]), at)); }
    });
  });
  document.querySelectorAll(".axis-choice button").forEach((button) => {
    button.addEventListener("click", () => {
      document.querySelectorAll(".axis-choice button").forEach((other) => {
        other.setAttribute("aria-pressed", String(other === button));
      });
      lossPlots.forEach((plot) => plot.toggleAttribute("hidden", plot.dataset.scale !== button.value));
    });
  });
  if (samples.length) {
    byId("slider").addEventListener("input", (event) => { stop(); show(Number(event.target.value)); });
    byId("play").addEventListener("click", play);
    byId("all").addEventListener("click", () => {
      const open = byId("every").classList.toggle("open");
      byId("all").setAttribute("aria-expanded", String(open));
      byId("all").textContent = open ? "Hide the list" : "Show all of them below each other";
    });
    show(current);
  }
})();
