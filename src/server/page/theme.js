// Before anything is painted: the theme that was chosen here, if one was. Without, the system's preference holds.
{
  const theme = localStorage.getItem("spate.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
