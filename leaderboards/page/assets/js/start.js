// The first drawing, and where in the page we are.
fromHash();
changed();
addEventListener("hashchange", () => {
  if (location.hash.slice(1) === toHash()) return;
  fromHash();
  changed();
});
const links = [...document.querySelectorAll("nav a")];
const observer = new IntersectionObserver((seen) => {
  for (const one of seen) {
    if (!one.isIntersecting) continue;
    for (const item of links) {
      if (item.hash === `#${one.target.id}`) item.setAttribute("aria-current", "true");
      else item.removeAttribute("aria-current");
    }
  }
}, { rootMargin: "-15% 0px -75% 0px" });
document.querySelectorAll("section").forEach((one) => observer.observe(one));
const footer = document.getElementById("footer");
if (board.files.length) {
  footer.append("The same numbers: ");
  board.files.forEach((name, k) => footer.append(k ? ", " : "", h("a", { href: name }, name)));
  footer.append(".");
}
